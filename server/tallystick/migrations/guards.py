"""The entries as a view, and the triggers that keep the journal append-only.

Part of the revisions that make and remake them (0002, 0004, 0005), and frozen with
those.
"""

from alembic import op

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


def guard() -> None:
    """PostgreSQL's triggers call a function that revision 0002 makes."""
    op.execute(_ENTRY)
    for table in _APPEND_ONLY:
        refuse_changes(table)


def unguard() -> None:
    for table in _APPEND_ONLY:
        allow_changes(table)
    op.execute("DROP VIEW entry")


def refuse_changes(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            f"CREATE TRIGGER {table}_append_only"
            f" BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table}"
            f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )


def allow_changes(table: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
        return
    for verb in ("update", "delete"):
        op.execute(f"DROP TRIGGER {table}_refuses_{verb}")
