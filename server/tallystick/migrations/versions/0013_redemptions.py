"""Plain transfers whose senders have proven that these were theirs."""

from alembic import op

from tallystick.migrations.columns import big, index, small, table, text

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table(
        "redemption",
        big("chain_transfer_id"),
        small("generation"),
        big("customer_id"),
        big("credits"),
        text("catalog_version"),
        big("redeemed_at_ms"),
        key=("chain_transfer_id", "generation"),
        refers={"chain_transfer_id": "chain_transfer.id", "customer_id": "customer.id"},
    )
    index("ix_chain_transfer_tx_hash", "chain_transfer", ["tx_hash"])


def downgrade() -> None:
    """Fails on books in which something was redeemed: its money has an owner."""
    op.execute("CREATE TABLE nothing_may_be_redeemed (one INTEGER CHECK (one = 0))")
    op.execute("INSERT INTO nothing_may_be_redeemed SELECT 1 FROM redemption LIMIT 1")
    op.drop_table("nothing_may_be_redeemed")
    op.drop_index(op.f("ix_chain_transfer_tx_hash"), "chain_transfer")
    op.drop_table("redemption")
