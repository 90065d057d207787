"""Lots: what a customer's credits consist of, and what each line drew from them.

Existing books are carried over by living them again (``carry_over``): every credit
becomes a lot, every debit draws in burn order, and open holds draw from what is left.
"""

import sqlalchemy as sa
from alembic import op

from tallystick.migrations.carry_over import carry_over

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")
_KINDS = ("topup", "charge", "grant", "suspense", "reversal")
_APPEND_ONLY = ("transfer", "ledger_transaction")
_LIMIT = 1 << 62
_JSON = {
    "sqlite": (
        "json_each({table}.lots) AS draw",
        "json_extract(draw.value, '$[0]')",
        "json_extract(draw.value, '$[1]')",
    ),
    "postgresql": (
        "jsonb_array_elements(CAST({table}.lots AS jsonb)) AS draw",
        "CAST(draw ->> 0 AS BIGINT)",
        "CAST(draw ->> 1 AS BIGINT)",
    ),
}


def upgrade() -> None:
    _unguard()
    op.create_table(
        "lot",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("ledger_account_id", BIG, nullable=False),
        sa.Column("amount", BIG, nullable=False),
        sa.Column("remaining", BIG, nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("bought", sa.Boolean(), nullable=False),
        sa.Column("effective_at_ms", BIG, nullable=False),
        sa.Column("expires_at_ms", BIG, nullable=True),
        sa.CheckConstraint(
            "remaining >= 0 AND remaining <= amount", name=op.f("ck_lot_remaining")
        ),
        sa.CheckConstraint(
            "is_open = (remaining > 0)", name=op.f("ck_lot_open_while_left")
        ),
        sa.CheckConstraint(
            "NOT bought OR expires_at_ms IS NULL", name=op.f("ck_lot_bought_stays")
        ),
        sa.CheckConstraint(
            "expires_at_ms IS NULL OR expires_at_ms > effective_at_ms",
            name=op.f("ck_lot_times"),
        ),
        sa.ForeignKeyConstraint(
            ["ledger_account_id"],
            ["ledger_account.id"],
            name=op.f("fk_lot_ledger_account_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lot")),
    )
    op.create_index(
        "ix_lot_open",
        "lot",
        ["ledger_account_id"],
        sqlite_where=sa.text("is_open"),
        postgresql_where=sa.text("is_open"),
    )
    for table in ("transfer", "hold"):
        op.add_column(table, sa.Column("lot_id", BIG, nullable=True))
        op.add_column(table, sa.Column("lots", sa.String(), nullable=True))
    _change_transactions((*_KINDS, "expiry"), once=False)
    op.create_index(
        "ix_ledger_transaction_reverses_id",
        "ledger_transaction",
        ["reverses_id"],
        sqlite_where=sa.text("reverses_id IS NOT NULL"),
        postgresql_where=sa.text("reverses_id IS NOT NULL"),
    )
    op.create_table(
        "reversed",
        sa.Column("ledger_transaction_id", BIG, autoincrement=False, nullable=False),
        sa.Column("asset", sa.String(), nullable=False),
        sa.Column("amount", BIG, nullable=False),
        sa.Column("reversed", BIG, nullable=False),
        sa.CheckConstraint(
            "reversed >= 0 AND reversed <= amount", name=op.f("ck_reversed_reversed")
        ),
        sa.ForeignKeyConstraint(
            ["ledger_transaction_id"],
            ["ledger_transaction.id"],
            name=op.f("fk_reversed_ledger_transaction_id"),
        ),
        sa.PrimaryKeyConstraint(
            "ledger_transaction_id", "asset", name=op.f("pk_reversed")
        ),
    )
    _remake_balances()
    carry_over(op.get_bind())
    _make_views()
    _guard()


def _change_transactions(kinds: tuple[str, ...], *, once: bool) -> None:
    """Other kinds, and whether a transaction is reversed once or in parts."""
    check = f"kind IN ({', '.join(repr(one) for one in kinds)})"
    name = op.f("ck_ledger_transaction_kind")
    unique = op.f("uq_ledger_transaction_reverses_id")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(name, "ledger_transaction")
        op.create_check_constraint(name, "ledger_transaction", check)
        if once:
            op.create_unique_constraint(unique, "ledger_transaction", ["reverses_id"])
        else:
            op.drop_constraint(unique, "ledger_transaction")
        return
    both = [sa.UniqueConstraint("reverses_id", name=unique)] if once else []
    op.create_table(
        "ledger_transaction_new",
        sa.Column("id", BIG, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.LargeBinary(length=16), nullable=False),
        sa.Column("input_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("reference", sa.String(), nullable=False),
        sa.Column("memo", sa.String(), nullable=False),
        sa.Column("reverses_id", BIG, nullable=True),
        sa.Column("occurred_at_ms", BIG, nullable=False),
        sa.Column("posted_at_ms", BIG, nullable=False),
        sa.CheckConstraint(check, name=name),
        sa.ForeignKeyConstraint(
            ["reverses_id"],
            ["ledger_transaction.id"],
            name=op.f("fk_ledger_transaction_reverses_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_transaction")),
        sa.UniqueConstraint(
            "idempotency_key", name=op.f("uq_ledger_transaction_idempotency_key")
        ),
        *both,
    )
    _swap("ledger_transaction", "*")


def _remake_balances() -> None:
    """With the columns that lots need; the old rows' figures are still right."""
    if op.get_bind().dialect.name == "postgresql":
        for column in ("deferred", "revision"):
            added = sa.Column(column, BIG, nullable=False, server_default="0")
            op.add_column("account_balance", added)
            op.alter_column("account_balance", column, server_default=None)
        op.add_column("account_balance", sa.Column("next_change_ms", BIG))
        name = op.f("ck_account_balance_never_overdrawn")
        op.drop_constraint(name, "account_balance")
        op.create_check_constraint(
            name, "account_balance", "balance - held - deferred >= 0"
        )
        op.create_check_constraint(
            op.f("ck_account_balance_deferred_not_negative"),
            "account_balance",
            "deferred >= 0",
        )
    else:
        _create_balances("balance - held - deferred >= 0", lots=True)
        _swap(
            "account_balance", "ledger_account_id, balance, held, 0, version, 0, NULL"
        )
    op.create_index(
        "ix_account_balance_next_change",
        "account_balance",
        ["next_change_ms"],
        sqlite_where=sa.text("next_change_ms IS NOT NULL"),
        postgresql_where=sa.text("next_change_ms IS NOT NULL"),
    )


def _create_balances(never_overdrawn: str, *, lots: bool) -> None:
    more = [
        sa.Column("revision", BIG, nullable=False),
        sa.Column("next_change_ms", BIG, nullable=True),
        sa.CheckConstraint(
            "deferred >= 0", name=op.f("ck_account_balance_deferred_not_negative")
        ),
    ]
    op.create_table(
        "account_balance_new",
        sa.Column("ledger_account_id", BIG, autoincrement=False, nullable=False),
        sa.Column("balance", BIG, nullable=False),
        sa.Column("held", BIG, nullable=False),
        *([sa.Column("deferred", BIG, nullable=False)] if lots else []),
        sa.Column("version", BIG, nullable=False),
        *(more if lots else []),
        sa.CheckConstraint(
            never_overdrawn, name=op.f("ck_account_balance_never_overdrawn")
        ),
        sa.CheckConstraint(
            "held >= 0", name=op.f("ck_account_balance_held_not_negative")
        ),
        sa.CheckConstraint(
            f"balance < {_LIMIT}", name=op.f("ck_account_balance_balance_limit")
        ),
        sa.ForeignKeyConstraint(
            ["ledger_account_id"],
            ["ledger_account.id"],
            name=op.f("fk_account_balance_ledger_account_id"),
        ),
        sa.PrimaryKeyConstraint("ledger_account_id", name=op.f("pk_account_balance")),
    )


def _swap(table: str, columns: str) -> None:
    """Put the new table in the old one's place; SQLite cannot change constraints."""
    op.execute(f"INSERT INTO {table}_new SELECT {columns} FROM {table}")  # noqa: S608  # our own words
    op.execute(f"DROP TABLE {table}")
    op.execute(f"ALTER TABLE {table}_new RENAME TO {table}")


def _make_views() -> None:
    source, lot_id, amount = _JSON[op.get_bind().dialect.name]
    op.execute(f"""
        CREATE VIEW lot_entry AS
        SELECT id AS transfer_id, ledger_transaction_id, lot_id,
               CASE WHEN debit_version IS NULL THEN amount ELSE -amount END AS amount
          FROM transfer WHERE lot_id IS NOT NULL
        UNION ALL
        SELECT transfer.id, ledger_transaction_id, {lot_id}, {amount}
          FROM transfer, {source.format(table="transfer")}
         WHERE transfer.lots IS NOT NULL""")  # noqa: S608  # our own words
    op.execute(f"""
        CREATE VIEW hold_draw AS
        SELECT id AS hold_id, lot_id, amount FROM hold WHERE lot_id IS NOT NULL
        UNION ALL
        SELECT hold.id, {lot_id}, {amount}
          FROM hold, {source.format(table="hold")}
         WHERE hold.lots IS NOT NULL""")  # noqa: S608  # our own words


def _unguard() -> None:
    for table in _APPEND_ONLY:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"DROP TRIGGER {table}_append_only ON {table}")
        else:
            for verb in ("update", "delete"):
                op.execute(f"DROP TRIGGER {table}_refuses_{verb}")
    op.execute("DROP VIEW entry")


def _guard() -> None:
    """As revision 0002 made them."""
    op.execute("""
        CREATE VIEW entry AS
        SELECT transfer.id AS transfer_id, ledger_transaction_id,
               debit_account_id AS ledger_account_id, -amount AS amount,
               debit_balance_after AS balance_after, debit_version AS version
          FROM transfer
        UNION ALL
        SELECT transfer.id, ledger_transaction_id, credit_account_id, amount,
               credit_balance_after, credit_version
          FROM transfer""")
    for table in _APPEND_ONLY:
        if op.get_bind().dialect.name == "postgresql":
            op.execute(
                f"CREATE TRIGGER {table}_append_only"
                f" BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
            )
            continue
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_refuses_{verb.lower()} BEFORE {verb} ON {table}"
                f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )


def downgrade() -> None:
    """Back to one pool. Fails on books that have expiries or reversals in parts."""
    _unguard()
    op.execute("DROP VIEW hold_draw")
    op.execute("DROP VIEW lot_entry")
    op.drop_index("ix_ledger_transaction_reverses_id", "ledger_transaction")
    op.drop_table("reversed")
    op.drop_index("ix_account_balance_next_change", "account_balance")
    if op.get_bind().dialect.name == "postgresql":
        name = op.f("ck_account_balance_never_overdrawn")
        op.drop_constraint(name, "account_balance")
        op.drop_constraint(
            op.f("ck_account_balance_deferred_not_negative"), "account_balance"
        )
        op.create_check_constraint(name, "account_balance", "balance - held >= 0")
        for column in ("deferred", "revision", "next_change_ms"):
            op.drop_column("account_balance", column)
    else:
        _create_balances("balance - held >= 0", lots=False)
        _swap("account_balance", "ledger_account_id, balance, held, version")
    _change_transactions(_KINDS, once=True)
    for table in ("hold", "transfer"):
        op.drop_column(table, "lots")
        op.drop_column(table, "lot_id")
    op.drop_table("lot")
    _guard()
