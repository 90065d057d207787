"""What was credited before its block is safe, for each customer and for all of them."""

from alembic import op

from tallystick.migrations.columns import big, table

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


def downgrade() -> None:
    op.drop_column("topup", "exposed")
    op.drop_table("exposure")
