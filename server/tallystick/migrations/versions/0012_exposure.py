"""What was credited before its block is safe, for each customer and for all of them.

And the indexes by which the workers find a wallet's top-ups and those that grow firm.
"""

from alembic import op

from tallystick.migrations.columns import big, index, table

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table(
        "exposure",
        big("chain_id"),
        big("customer_id"),
        big("provisional"),
        key=("chain_id", "customer_id"),
        checks={"provisional": "provisional >= 0"},
    )
    op.add_column("topup", big("exposed", null=True))
    index("ix_topup_payer", "topup", ["payer", "chain_id"])
    index("ix_topup_state_block_number", "topup", ["state", "block_number"])


def downgrade() -> None:
    for one in ("ix_topup_payer", "ix_topup_state_block_number"):
        op.drop_index(op.f(one), "topup")
    op.drop_column("topup", "exposed")
    op.drop_table("exposure")
