"""Who owns a relayer's key for now, and what each attempt at a nonce pays.

The fees of what was signed before are read from its bytes. A filler may belong to no
top-up: it takes a nonce that somebody else had taken, in a block that was replaced.
"""

import sqlalchemy as sa
from alembic import op
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from tallystick.migrations.columns import BIG, big, blob, index, small, table, text

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_SENT = "relayed_transaction"
_KINDS = "kind IN ('settlement', 'filler')"
_OF_A_TOPUP = "kind = 'filler' OR topup_id IS NOT NULL"
_FEES = ("gas_limit", "max_fee_per_gas", "max_priority_fee_per_gas")
_BEFORE = (
    "tx_hash, topup_id, chain_id, relayer, evm_nonce, attempt, raw, signed_at_ms,"
    " sent_at_ms"
)
_BATCH = 500


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _add_columns()
    else:
        _remake_relayer("0, 0", with_lease=True)
        _remake_sent("'settlement', 0, 0, 0", with_fees=True)
    _read_fees()


def downgrade() -> None:
    """Forgets fillers without a top-up; nothing before 0014 would send them again."""
    op.execute(f"DELETE FROM {_SENT} WHERE topup_id IS NULL")  # noqa: S608  # our own words
    if op.get_bind().dialect.name == "postgresql":
        _drop_columns()
    else:
        _remake_relayer(None, with_lease=False)
        _remake_sent(None, with_fees=False)


def _add_columns() -> None:
    op.add_column("relayer", blob("owner", 16, null=True))
    for one in ("fence", "leased_until_ms"):
        _add("relayer", big(one), "0")
    _add(_SENT, text("kind"), "settlement")
    for one in _FEES:
        _add(_SENT, big(one), "0")
    op.alter_column(_SENT, "topup_id", nullable=True)
    op.create_check_constraint(op.f(f"ck_{_SENT}_kind"), _SENT, _KINDS)
    op.create_check_constraint(op.f(f"ck_{_SENT}_topup"), _SENT, _OF_A_TOPUP)


def _add(name: str, column: "sa.Column[object]", value: str) -> None:
    column.server_default = sa.DefaultClause(value)
    op.add_column(name, column)
    op.alter_column(name, column.name, server_default=None)


def _drop_columns() -> None:
    for check in ("kind", "topup"):
        op.drop_constraint(op.f(f"ck_{_SENT}_{check}"), _SENT)
    op.alter_column(_SENT, "topup_id", nullable=False)
    for one in ("kind", *_FEES):
        op.drop_column(_SENT, one)
    for one in ("owner", "fence", "leased_until_ms"):
        op.drop_column("relayer", one)


def _remake_relayer(values: str | None, *, with_lease: bool) -> None:
    lease = (blob("owner", 16, null=True), big("fence"), big("leased_until_ms"))
    table(
        "relayer",
        blob("address", 20),
        big("chain_id"),
        big("next_nonce"),
        *(lease if with_lease else ()),
        key=("address", "chain_id"),
        create_as="relayer_new",
    )
    columns = "address, chain_id, next_nonce"
    _swap("relayer", f"{columns}, NULL, {values}" if values else columns)


def _remake_sent(values: str | None, *, with_fees: bool) -> None:
    place = ("chain_id", "relayer", "evm_nonce", "attempt")
    table(
        _SENT,
        blob("tx_hash", 32),
        big("topup_id", null=with_fees),
        big("chain_id"),
        blob("relayer", 20),
        big("evm_nonce"),
        small("attempt"),
        blob("raw", 32768),
        big("signed_at_ms"),
        big("sent_at_ms"),
        *((text("kind"), *map(big, _FEES)) if with_fees else ()),
        key=("tx_hash",),
        checks={"kind": _KINDS, "topup": _OF_A_TOPUP} if with_fees else None,
        refers={"topup_id": "topup.id"},
        unique={"_".join(place): place},
        create_as=f"{_SENT}_new",
    )
    _swap(_SENT, f"{_BEFORE}, {values}" if values else _BEFORE)
    index(f"ix_{_SENT}_topup_id", _SENT, ["topup_id"])


def _swap(name: str, columns: str) -> None:
    """Put the new table in the old one's place; SQLite cannot change constraints."""
    op.execute(f"INSERT INTO {name}_new SELECT {columns} FROM {name}")  # noqa: S608  # our own words
    op.execute(f"DROP TABLE {name}")
    op.execute(f"ALTER TABLE {name}_new RENAME TO {name}")


def _read_fees() -> None:
    """The bytes say what each transaction may cost; a batch at a time."""
    sent = sa.table(
        _SENT,
        sa.column("tx_hash", sa.LargeBinary()),
        sa.column("raw", sa.LargeBinary()),
        *(sa.column(one, BIG) for one in _FEES),
    )
    known = sa.bindparam("known", type_=sa.LargeBinary())
    values = {one: sa.bindparam(f"new_{one}", type_=BIG) for one in _FEES}
    change = sa.update(sent).where(sent.c.tx_hash == known).values(values)
    bind, last = op.get_bind(), b""
    while rows := bind.execute(
        sa.select(sent.c.tx_hash, sent.c.raw)
        .where(sent.c.tx_hash > last)
        .order_by(sent.c.tx_hash)
        .limit(_BATCH)
    ).all():
        bind.execute(change, [{"known": row.tx_hash, **_fees(row.raw)} for row in rows])
        last = rows[-1].tx_hash


def _fees(raw: bytes) -> dict[str, int]:
    said = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
    names = ("gas", "maxFeePerGas", "maxPriorityFeePerGas")
    return {
        f"new_{column}": int(said[name])
        for column, name in zip(_FEES, names, strict=True)
    }
