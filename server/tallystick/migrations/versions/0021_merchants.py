"""Other sellers for whom this server is the facilitator, and what it settles for them.

A transaction of ours is for a top-up, for a merchant's settlement, or for neither.
"""

from alembic import op

from tallystick.migrations.columns import big, blob, index, small, table, text

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_SENT = "relayed_transaction"
_KINDS = "kind IN ('settlement', 'filler')"
_OF_A_TOPUP = "kind = 'filler' OR topup_id IS NOT NULL"
_OF_EITHER = f"{_OF_A_TOPUP} OR merchant_settlement_id IS NOT NULL"
_OF_ONE = "topup_id IS NULL OR merchant_settlement_id IS NULL"
_BEFORE = (
    "tx_hash, topup_id, chain_id, relayer, evm_nonce, attempt, raw, signed_at_ms,"
    " sent_at_ms, kind, gas_limit, max_fee_per_gas, max_priority_fee_per_gas"
)
_STATES = (
    "state IN ('claimed', 'signed', 'watch', 'settled', 'final', 'rejected', 'expired',"
    " 'canceled', 'quarantine')"
)


def upgrade() -> None:
    _make_merchants()
    _make_settlements()
    op.add_column("relayed_gas", big("merchant_id", null=True))
    if op.get_bind().dialect.name == "postgresql":
        _widen()
    else:
        _remake(is_new=True)
    name = f"ix_{_SENT}_merchant_settlement_id"
    index(name, _SENT, ["merchant_settlement_id"])


def downgrade() -> None:
    """Fails once something was signed for a merchant: it would be nobody's."""
    op.execute("CREATE TABLE nothing_may_be_a_merchants (one INTEGER CHECK (one = 0))")
    op.execute("""
        INSERT INTO nothing_may_be_a_merchants SELECT 1 FROM relayed_transaction
         WHERE merchant_settlement_id IS NOT NULL LIMIT 1""")
    op.drop_table("nothing_may_be_a_merchants")
    if op.get_bind().dialect.name == "postgresql":
        _narrow()
    else:
        _remake(is_new=False)
    op.drop_column("relayed_gas", "merchant_id")
    for name in ("merchant_settlement", "merchant_gas", "merchant_payee", "merchant"):
        op.drop_table(name)


def _make_merchants() -> None:
    table(
        "merchant",
        big("id"),
        text("name"),
        blob("secret_mac", 32),
        big("created_at_ms"),
        big("revoked_at_ms", null=True),
    )
    of_merchant = {"merchant_id": "merchant.id"}
    table(
        "merchant_payee",
        big("merchant_id"),
        blob("pay_to", 20),
        key=("merchant_id", "pay_to"),
        refers=of_merchant,
    )
    table(
        "merchant_gas",
        big("chain_id"),
        big("merchant_id"),
        small("day"),
        big("reserved"),
        big("spent"),
        key=("chain_id", "merchant_id", "day"),
        checks={"reserved": "reserved >= 0", "spent": "spent >= 0"},
        refers=of_merchant,
    )


def _make_settlements() -> None:
    name, place = "merchant_settlement", ("chain_id", "token", "payer", "nonce")
    table(
        name,
        big("id"),
        big("merchant_id"),
        big("chain_id"),
        blob("token", 20),
        blob("payer", 20),
        blob("pay_to", 20),
        blob("nonce", 32),
        big("value"),
        big("valid_after"),
        big("valid_before"),
        blob("signature", 8192),
        text("state"),
        text("reason", null=True),
        big("scan_from_block"),
        blob("tx_hash", 32, null=True),
        big("block_number", null=True),
        blob("block_hash", 32, null=True),
        big("created_at_ms"),
        big("next_look_at_ms"),
        checks={
            "state": _STATES,
            "value": "value > 0",
            "settled_has_anchor": "state NOT IN ('settled', 'final')"
            " OR (tx_hash IS NOT NULL AND block_hash IS NOT NULL)",
        },
        refers={"merchant_id": "merchant.id"},
        unique={"_".join(place): place},
    )
    index(f"ix_{name}_merchant_id", name, ["merchant_id"])
    open_only = "state IN ('claimed', 'signed', 'watch', 'settled')"
    index(f"ix_{name}_open", name, ["next_look_at_ms"], where=open_only)


def _widen() -> None:
    column = "merchant_settlement_id"
    op.add_column(_SENT, big(column, null=True))
    op.create_foreign_key(
        op.f(f"fk_{_SENT}_{column}"), _SENT, "merchant_settlement", [column], ["id"]
    )
    op.drop_constraint(op.f(f"ck_{_SENT}_topup"), _SENT)
    op.create_check_constraint(op.f(f"ck_{_SENT}_topup"), _SENT, _OF_EITHER)
    op.create_check_constraint(op.f(f"ck_{_SENT}_one_of_them"), _SENT, _OF_ONE)


def _narrow() -> None:
    for check in ("topup", "one_of_them"):
        op.drop_constraint(op.f(f"ck_{_SENT}_{check}"), _SENT)
    op.drop_column(_SENT, "merchant_settlement_id")
    op.create_check_constraint(op.f(f"ck_{_SENT}_topup"), _SENT, _OF_A_TOPUP)


def _remake(*, is_new: bool) -> None:
    """SQLite cannot change constraints."""
    place = ("chain_id", "relayer", "evm_nonce", "attempt")
    refers = {"topup_id": "topup.id"}
    checks = {"kind": _KINDS, "topup": _OF_EITHER if is_new else _OF_A_TOPUP}
    if is_new:
        refers["merchant_settlement_id"] = "merchant_settlement.id"
        checks["one_of_them"] = _OF_ONE
    table(
        _SENT,
        blob("tx_hash", 32),
        big("topup_id", null=True),
        big("chain_id"),
        blob("relayer", 20),
        big("evm_nonce"),
        small("attempt"),
        blob("raw", 32768),
        big("signed_at_ms"),
        big("sent_at_ms"),
        text("kind"),
        big("gas_limit"),
        big("max_fee_per_gas"),
        big("max_priority_fee_per_gas"),
        *((big("merchant_settlement_id", null=True),) if is_new else ()),
        key=("tx_hash",),
        checks=checks,
        refers=refers,
        unique={"_".join(place): place},
        create_as=f"{_SENT}_new",
    )
    columns = f"{_BEFORE}, NULL" if is_new else _BEFORE
    op.execute(f"INSERT INTO {_SENT}_new SELECT {columns} FROM {_SENT}")  # noqa: S608  # our own words
    op.execute(f"DROP TABLE {_SENT}")
    op.execute(f"ALTER TABLE {_SENT}_new RENAME TO {_SENT}")
    index(f"ix_{_SENT}_topup_id", _SENT, ["topup_id"])
