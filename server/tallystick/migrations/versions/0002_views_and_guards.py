"""The entries as a view, and the guards that keep the journal append-only."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ENTRY = """
CREATE VIEW entry AS
SELECT transfer.id AS transfer_id, ledger_transaction_id,
       debit_account_id AS ledger_account_id, -amount AS amount,
       debit_balance_after AS balance_after, debit_version AS version
  FROM transfer
UNION ALL
SELECT transfer.id, ledger_transaction_id, credit_account_id, amount,
       credit_balance_after, credit_version
  FROM transfer
"""
_APPEND_ONLY = ("transfer", "ledger_transaction")


def upgrade() -> None:
    op.execute(_ENTRY)
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgresql()
    else:
        _guard_sqlite()
    op.execute(
        sa.text(
            "INSERT INTO installation (id, boots, created_at_ms) VALUES (1, 0, :at)"
        ).bindparams(at=int(time.time() * 1000))
    )


def _guard_sqlite() -> None:
    for table in _APPEND_ONLY:
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def _guard_postgresql() -> None:
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
        END $$
    """)
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only"
            f" BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    for table in _APPEND_ONLY:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
        else:
            op.execute(f"DROP TRIGGER {table}_refuses_update")
            op.execute(f"DROP TRIGGER {table}_refuses_delete")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")
    op.execute("DROP VIEW entry")
    op.execute("DELETE FROM installation")
