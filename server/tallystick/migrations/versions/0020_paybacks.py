"""Unused credits that go back as USDC, and which authorization moved money out."""

from alembic import op

from tallystick.migrations.columns import big, blob, index, small, table, text

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("chain_outflow", blob("nonce", 32, null=True))
    _make_paybacks()
    table(
        "paid_back",
        big("topup_id"),
        big("paid"),
        big("usdc"),
        small("last_number"),
        key=("topup_id",),
        checks={"usdc_within_paid": "usdc >= 0 AND usdc <= paid"},
        refers={"topup_id": "topup.id"},
    )
    table(
        "float_day",
        big("chain_id"),
        small("day"),
        big("usdc"),
        key=("chain_id", "day"),
        checks={"usdc": "usdc >= 0"},
    )


def downgrade() -> None:
    """Fails on books in which credits went back: the ledger has it."""
    op.execute("CREATE TABLE nothing_may_be_paid_back (one INTEGER CHECK (one = 0))")
    op.execute("INSERT INTO nothing_may_be_paid_back SELECT 1 FROM payback LIMIT 1")
    op.drop_table("nothing_may_be_paid_back")
    op.drop_table("float_day")
    op.drop_table("paid_back")
    op.drop_table("payback")
    op.drop_column("chain_outflow", "nonce")


def _make_paybacks() -> None:
    name = "payback"
    table(
        name,
        big("id"),
        big("topup_id"),
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
        checks={
            "state": "state IN ('proposed', 'approved', 'issued', 'paid', 'cancelled')",
            "way": "way IN ('float', 'browser', 'safe')",
            "amounts": "credits > 0 AND usdc > 0",
            "two_operators": "approved_by <> proposed_by",
            "issued_has_way": "state NOT IN ('issued', 'paid')"
            " OR (way IS NOT NULL AND from_address IS NOT NULL)",
            "paid_has_transfer": "(state = 'paid') = (tx_hash IS NOT NULL)"
            " AND (tx_hash IS NULL) = (log_index IS NULL)",
        },
        refers={"topup_id": "topup.id", "customer_id": "customer.id"},
        unique={"topup_id_number": ("topup_id", "number"), "nonce": ("nonce",)},
    )
    index(f"ix_{name}_customer_id", name, ["customer_id"])
    index(f"ix_{name}_issued", name, ["chain_id"], where="state = 'issued'")
    index(
        f"uq_{name}_transfer",
        name,
        ["chain_id", "tx_hash", "log_index"],
        where="tx_hash IS NOT NULL",
        unique=True,
    )
