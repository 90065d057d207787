"""What a chain that replaces its blocks takes back, and what its payers then owe.

A Transfer may be missing from the blocks that replaced its own, or gone for good; what
was spent of its credits is owed. Which kinds of transactions there are is for the code
to say and for the audit to check: SQLite would write the journal anew for each kind that
comes to it.
"""

import sqlalchemy as sa
from alembic import op

from tallystick.migrations.columns import big, blob, index, small, table, text
from tallystick.migrations.guards import allow_changes, refuse_changes
from tallystick.migrations.rights import return_rights, take_rights

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_KINDS = ("topup", "charge", "grant", "suspense", "reversal", "expiry")
_OPEN = "state IN ('claimed', 'signed', 'watch')"
_PENDING = "state IN ('claimed', 'signed', 'watch', 'reversed')"
_PRESENCE = "presence IN ('booked', 'missing', 'gone')"
_OF_A_TOPUP = "topup_id IS NOT NULL AND presence <> 'gone'"
_TRANSFER = (
    "id, chain_id, token, block_number, block_hash, tx_hash, log_index, sender, pay_to,"
    " value, nonce, topup_id, seen_at_ms"
)


def upgrade() -> None:
    return_rights()
    _free_kinds(free=True)
    take_rights()
    _remake_transfers(with_presence=True)
    table(
        "recent_block",
        big("chain_id"),
        blob("token", 20),
        blob("pay_to", 20),
        big("number"),
        blob("hash", 32),
        key=("chain_id", "token", "pay_to", "number"),
    )
    table(
        "receivable",
        big("ledger_account_id"),
        big("customer_id"),
        big("owed"),
        key=("ledger_account_id",),
        checks={"owed": "owed >= 0"},
        refers={"ledger_account_id": "ledger_account.id"},
        unique={"customer_id": ("customer_id",)},
    )
    _index_open(_PENDING)


def downgrade() -> None:
    """Fails on books in which somebody owes something; forgets what is gone."""
    _index_open(_OPEN)
    op.execute("CREATE TABLE nobody_may_owe (one INTEGER CHECK (one = 0))")
    op.execute("INSERT INTO nobody_may_owe SELECT 1 FROM receivable WHERE owed > 0")
    op.drop_table("nobody_may_owe")
    op.drop_table("receivable")
    op.drop_table("recent_block")
    op.execute("DELETE FROM chain_transfer WHERE presence = 'gone'")
    _remake_transfers(with_presence=False)
    return_rights()
    _free_kinds(free=False)
    take_rights()


def _index_open(some: str) -> None:
    op.drop_index(op.f("ix_topup_open"), "topup")
    index("ix_topup_open", "topup", ["next_look_at_ms"], where=some)


def _free_kinds(*, free: bool) -> None:
    name = "ledger_transaction"
    kinds = f"kind IN ({', '.join(repr(one) for one in _KINDS)})"
    if op.get_bind().dialect.name == "postgresql":
        check = op.f(f"ck_{name}_kind")
        if free:
            op.drop_constraint(check, name)
        else:
            op.create_check_constraint(check, name, kinds)
        return
    allow_changes(name)
    table(
        name,
        big("id"),
        text("kind"),
        blob("idempotency_key", 16, null=True),
        blob("input_hash", 16, null=True),
        text("reference"),
        text("memo"),
        big("reverses_id", null=True),
        big("occurred_at_ms"),
        big("posted_at_ms"),
        checks=None if free else {"kind": kinds},
        refers={"reverses_id": f"{name}.id"},
        create_as=f"{name}_new",
    )
    _swap(name, "*")
    for column, unique in (("reverses_id", False), ("idempotency_key", True)):
        some = f"{column} IS NOT NULL"
        prefix = "uq" if unique else "ix"
        index(f"{prefix}_{name}_{column}", name, [column], where=some, unique=unique)
    refuse_changes(name)


def _remake_transfers(*, with_presence: bool) -> None:
    name = "chain_transfer"
    if op.get_bind().dialect.name == "postgresql":
        (_add_presence if with_presence else _drop_presence)()
        return
    place = ("chain_id", "block_hash", "log_index")
    table(
        name,
        big("id"),
        big("chain_id"),
        blob("token", 20),
        big("block_number"),
        blob("block_hash", 32),
        blob("tx_hash", 32),
        small("log_index"),
        blob("sender", 20),
        blob("pay_to", 20),
        big("value"),
        blob("nonce", 32, null=True),
        big("topup_id", null=True),
        big("seen_at_ms"),
        *((text("presence"), small("generation")) if with_presence else ()),
        checks={"value": "value > 0"}
        | ({"presence": _PRESENCE} if with_presence else {}),
        refers={"topup_id": "topup.id"},
        unique={"chain_id_block_hash_log_index": place}
        | ({} if with_presence else {"topup_id": ("topup_id",)}),
        create_as=f"{name}_new",
    )
    _swap(name, f"{_TRANSFER}, 'booked', 1" if with_presence else _TRANSFER)
    some = "nonce IS NOT NULL"
    index(f"ix_{name}_authorization", name, ["sender", "nonce"], where=some)
    if with_presence:
        _index_presence()


def _index_presence() -> None:
    name = "chain_transfer"
    index(f"uq_{name}_topup", name, ["topup_id"], where=_OF_A_TOPUP, unique=True)
    index(f"ix_{name}_block_number", name, ["chain_id", "block_number"])
    some = "presence = 'missing'"
    index(f"ix_{name}_missing", name, ["chain_id", "block_number"], where=some)
    some = "topup_id IS NULL AND nonce IS NOT NULL"
    books = ["chain_id", "token", "pay_to", "block_number"]
    index(f"ix_{name}_unclaimed", name, books, where=some)


def _add_presence() -> None:
    name = "chain_transfer"
    for column, value in ((text("presence"), "booked"), (small("generation"), "1")):
        column.server_default = sa.DefaultClause(value)
        op.add_column(name, column)
        op.alter_column(name, column.name, server_default=None)
    op.create_check_constraint(op.f(f"ck_{name}_presence"), name, _PRESENCE)
    op.drop_constraint(op.f(f"uq_{name}_topup_id"), name)
    _index_presence()


def _drop_presence() -> None:
    name = "chain_transfer"
    op.drop_index(op.f(f"uq_{name}_topup"), name)
    for one in ("block_number", "missing", "unclaimed"):
        op.drop_index(op.f(f"ix_{name}_{one}"), name)
    for column in ("presence", "generation"):
        op.drop_column(name, column)
    op.create_unique_constraint(op.f(f"uq_{name}_topup_id"), name, ["topup_id"])


def _swap(name: str, columns: str) -> None:
    """Put the new table in the old one's place; SQLite cannot change constraints."""
    op.execute(f"INSERT INTO {name}_new SELECT {columns} FROM {name}")  # noqa: S608  # our own words
    op.execute(f"DROP TABLE {name}")
    op.execute(f"ALTER TABLE {name}_new RENAME TO {name}")
