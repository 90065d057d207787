"""Credits of plain transfers that were redeemed go back as well."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tallystick.migrations.columns import BIG, big, blob, index, small, table, text

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

_NAME = "payback"
_TRANSFER = "chain_transfer_id"
_OF_ONE = "(topup_id IS NULL) <> (chain_transfer_id IS NULL)"
_SHARED = (
    "number, customer_id, chain_id, token, to_address, credits, usdc, nonce, state,"
    " proposed_by, reason, approved_by, way, from_address, issued_by, issued_block,"
    " valid_before, signature, named_tx, cancelled_by, cancel_reason, tx_hash,"
    " log_index, block_number, proposed_at_ms, changed_at_ms"
)


def upgrade() -> None:
    table(
        "transfer_paid_back",
        big(_TRANSFER),
        big("paid"),
        big("usdc"),
        small("last_number"),
        key=(_TRANSFER,),
        checks={"usdc_within_paid": "usdc >= 0 AND usdc <= paid"},
        refers={_TRANSFER: "chain_transfer.id"},
    )
    if op.get_bind().dialect.name == "postgresql":
        _widen()
    else:
        _remake(is_new=True)


def downgrade() -> None:
    """Fails once credits of a transfer went back: they would be of no purchase."""
    op.execute("CREATE TABLE nothing_may_be_paid_back (one INTEGER CHECK (one = 0))")
    op.execute("""
        INSERT INTO nothing_may_be_paid_back SELECT 1 FROM payback
         WHERE chain_transfer_id IS NOT NULL LIMIT 1""")
    op.drop_table("nothing_may_be_paid_back")
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(op.f(f"ck_{_NAME}_of_one"), _NAME)
        op.drop_column(_NAME, _TRANSFER)
        op.alter_column(_NAME, "topup_id", nullable=False, existing_type=BIG)
    else:
        _remake(is_new=False)
    op.drop_table("transfer_paid_back")


def _widen() -> None:
    op.add_column(_NAME, big(_TRANSFER, null=True))
    op.alter_column(_NAME, "topup_id", nullable=True, existing_type=BIG)
    op.create_foreign_key(
        op.f(f"fk_{_NAME}_{_TRANSFER}"), _NAME, "chain_transfer", [_TRANSFER], ["id"]
    )
    op.create_check_constraint(op.f(f"ck_{_NAME}_of_one"), _NAME, _OF_ONE)
    op.create_unique_constraint(
        op.f(f"uq_{_NAME}_{_TRANSFER}_number"), _NAME, [_TRANSFER, "number"]
    )


def _remake(*, is_new: bool) -> None:
    """SQLite cannot change constraints."""
    checks = {
        "state": "state IN ('proposed', 'approved', 'issued', 'paid', 'cancelled')",
        "way": "way IN ('float', 'browser', 'safe')",
        "amounts": "credits > 0 AND usdc > 0",
        "two_operators": "approved_by <> proposed_by",
        "issued_has_way": "state NOT IN ('issued', 'paid')"
        " OR (way IS NOT NULL AND from_address IS NOT NULL)",
        "paid_has_transfer": "(state = 'paid') = (tx_hash IS NOT NULL)"
        " AND (tx_hash IS NULL) = (log_index IS NULL)",
    }
    refers = {"topup_id": "topup.id", "customer_id": "customer.id"}
    unique = {"topup_id_number": ("topup_id", "number"), "nonce": ("nonce",)}
    if is_new:
        checks["of_one"] = _OF_ONE
        refers[_TRANSFER] = "chain_transfer.id"
        unique[f"{_TRANSFER}_number"] = (_TRANSFER, "number")
    table(
        _NAME,
        big("id"),
        big("topup_id", null=is_new),
        *_columns(),
        *((big(_TRANSFER, null=True),) if is_new else ()),
        checks=checks,
        refers=refers,
        unique=unique,
        create_as=f"{_NAME}_new",
    )
    op.execute(
        f"INSERT INTO {_NAME}_new (id, topup_id, {_SHARED})"  # noqa: S608  # our own words
        f" SELECT id, topup_id, {_SHARED} FROM {_NAME}"
    )
    op.execute(f"DROP TABLE {_NAME}")
    op.execute(f"ALTER TABLE {_NAME}_new RENAME TO {_NAME}")
    index(f"ix_{_NAME}_customer_id", _NAME, ["customer_id"])
    index(f"ix_{_NAME}_issued", _NAME, ["chain_id"], where="state = 'issued'")
    index(
        f"uq_{_NAME}_transfer",
        _NAME,
        ["chain_id", "tx_hash", "log_index"],
        where="tx_hash IS NOT NULL",
        unique=True,
    )


def _columns() -> tuple[sa.Column[Any], ...]:
    return (
        small("number"),
        big("customer_id"),
        big("chain_id"),
        blob("token", 20),
        blob("to_address", 20),
        big("credits"),
        big("usdc"),
        blob("nonce", 32),
        text("state"),
        text("proposed_by"),
        text("reason"),
        text("approved_by", null=True),
        text("way", null=True),
        blob("from_address", 20, null=True),
        text("issued_by", null=True),
        big("issued_block", null=True),
        big("valid_before", null=True),
        blob("signature", 8192, null=True),
        blob("named_tx", 32, null=True),
        text("cancelled_by", null=True),
        text("cancel_reason", null=True),
        blob("tx_hash", 32, null=True),
        small("log_index", null=True),
        big("block_number", null=True),
        big("proposed_at_ms"),
        big("changed_at_ms"),
    )
