"""Lots: what a customer's credits consist of, and what each line drew from them.

Existing books are carried over by living them again (``carry_over``): every credit
becomes a lot, every debit draws in burn order, and open holds draw from what is left.
"""

import sqlalchemy as sa
from alembic import op

from tallystick.migrations.carry_over import carry_over
from tallystick.migrations.columns import (
    BIG,
    big,
    blob,
    flag,
    index,
    small,
    table,
    text,
)
from tallystick.migrations.guards import guard, unguard

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KINDS = ("topup", "charge", "grant", "suspense", "reversal")
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
    unguard()
    _create_lots()
    _add_draws()
    _change_transactions((*_KINDS, "expiry"), once=False)
    index(
        "ix_ledger_transaction_reverses_id",
        "ledger_transaction",
        ["reverses_id"],
        where="reverses_id IS NOT NULL",
    )
    _create_reversed()
    _extend_balances()
    carry_over(op.get_bind())
    _create_views()
    guard()


def downgrade() -> None:
    """Back to one pool. Fails on books that have expiries or reversals in parts."""
    unguard()
    op.execute("DROP VIEW hold_draw")
    op.execute("DROP VIEW lot_entry")
    op.drop_index("ix_ledger_transaction_reverses_id", "ledger_transaction")
    op.drop_table("reversed")
    _reduce_balances()
    _change_transactions(_KINDS, once=True)
    for name in ("hold", "transfer"):
        op.drop_column(name, "lots")
        op.drop_column(name, "lot_id")
    op.drop_table("lot")
    guard()


def _create_lots() -> None:
    table(
        "lot",
        big("id"),
        big("ledger_account_id"),
        big("amount"),
        big("remaining"),
        flag("is_open"),
        small("priority"),
        flag("bought"),
        big("effective_at_ms"),
        big("expires_at_ms", null=True),
        checks={
            "remaining": "remaining >= 0 AND remaining <= amount",
            "open_while_left": "is_open = (remaining > 0)",
            "bought_stays": "NOT bought OR expires_at_ms IS NULL",
            "times": "expires_at_ms IS NULL OR expires_at_ms > effective_at_ms",
        },
        refers={"ledger_account_id": "ledger_account.id"},
    )
    index("ix_lot_open", "lot", ["ledger_account_id"], where="is_open")


def _add_draws() -> None:
    """Which lots a line or a hold drew from: one, or several with their amounts."""
    for name in ("transfer", "hold"):
        op.add_column(name, big("lot_id", null=True))
        op.add_column(name, text("lots", null=True))


def _create_reversed() -> None:
    table(
        "reversed",
        big("ledger_transaction_id"),
        text("asset"),
        big("amount"),
        big("reversed"),
        key=("ledger_transaction_id", "asset"),
        checks={"reversed": "reversed >= 0 AND reversed <= amount"},
        refers={"ledger_transaction_id": "ledger_transaction.id"},
    )


def _change_transactions(kinds: tuple[str, ...], *, once: bool) -> None:
    """Other kinds, and whether a transaction is reversed once or in parts."""
    check = f"kind IN ({', '.join(repr(one) for one in kinds)})"
    if op.get_bind().dialect.name == "postgresql":
        _alter_transactions(check, once=once)
    else:
        _create_transactions(check, once=once)
        _swap("ledger_transaction", "*")


def _alter_transactions(check: str, *, once: bool) -> None:
    name = op.f("ck_ledger_transaction_kind")
    op.drop_constraint(name, "ledger_transaction")
    op.create_check_constraint(name, "ledger_transaction", check)
    unique = op.f("uq_ledger_transaction_reverses_id")
    if once:
        op.create_unique_constraint(unique, "ledger_transaction", ["reverses_id"])
    else:
        op.drop_constraint(unique, "ledger_transaction")


def _create_transactions(check: str, *, once: bool) -> None:
    unique = ("idempotency_key", *(["reverses_id"] if once else []))
    table(
        "ledger_transaction",
        big("id"),
        text("kind"),
        blob("idempotency_key", 16),
        blob("input_hash", 16),
        text("reference"),
        text("memo"),
        big("reverses_id", null=True),
        big("occurred_at_ms"),
        big("posted_at_ms"),
        checks={"kind": check},
        refers={"reverses_id": "ledger_transaction.id"},
        unique={one: (one,) for one in unique},
        create_as="ledger_transaction_new",
    )


def _extend_balances() -> None:
    """With the columns that lots need; the old rows' figures are still right."""
    if op.get_bind().dialect.name == "postgresql":
        for column in ("deferred", "revision"):
            added = sa.Column(column, BIG, nullable=False, server_default="0")
            op.add_column("account_balance", added)
            op.alter_column("account_balance", column, server_default=None)
        op.add_column("account_balance", big("next_change_ms", null=True))
        _alter_overdrawn("balance - held - deferred >= 0")
        name = op.f("ck_account_balance_deferred_not_negative")
        op.create_check_constraint(name, "account_balance", "deferred >= 0")
    else:
        _create_balances(lots=True)
        columns = "ledger_account_id, balance, held, 0, version, 0, NULL"
        _swap("account_balance", columns)
    index(
        "ix_account_balance_next_change",
        "account_balance",
        ["next_change_ms"],
        where="next_change_ms IS NOT NULL",
    )


def _reduce_balances() -> None:
    op.drop_index("ix_account_balance_next_change", "account_balance")
    if op.get_bind().dialect.name == "postgresql":
        name = op.f("ck_account_balance_deferred_not_negative")
        op.drop_constraint(name, "account_balance")
        _alter_overdrawn("balance - held >= 0")
        for column in ("deferred", "revision", "next_change_ms"):
            op.drop_column("account_balance", column)
    else:
        _create_balances(lots=False)
        _swap("account_balance", "ledger_account_id, balance, held, version")


def _alter_overdrawn(check: str) -> None:
    name = op.f("ck_account_balance_never_overdrawn")
    op.drop_constraint(name, "account_balance")
    op.create_check_constraint(name, "account_balance", check)


def _create_balances(*, lots: bool) -> None:
    deferred = {"deferred_not_negative": "deferred >= 0"} if lots else {}
    spendable = "balance - held - deferred" if lots else "balance - held"
    table(
        "account_balance",
        big("ledger_account_id"),
        big("balance"),
        big("held"),
        *([big("deferred")] if lots else []),
        big("version"),
        *([big("revision"), big("next_change_ms", null=True)] if lots else []),
        key=("ledger_account_id",),
        checks=deferred
        | {
            "never_overdrawn": f"{spendable} >= 0",
            "held_not_negative": "held >= 0",
            "balance_limit": f"balance < {_LIMIT}",
        },
        refers={"ledger_account_id": "ledger_account.id"},
        create_as="account_balance_new",
    )


def _swap(name: str, columns: str) -> None:
    """Put the new table in the old one's place; SQLite cannot change constraints."""
    op.execute(f"INSERT INTO {name}_new SELECT {columns} FROM {name}")  # noqa: S608  # our own words
    op.execute(f"DROP TABLE {name}")
    op.execute(f"ALTER TABLE {name}_new RENAME TO {name}")


def _create_views() -> None:
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
