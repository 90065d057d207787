"""Workers in processes of their own say that they are there."""

from alembic import op

from tallystick.migrations.columns import big, blob, table, text

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table(
        "worker",
        blob("owner", 16),
        big("chain_id"),
        big("seen_at_ms"),
        text("obstacle", null=True),
        key=("owner",),
    )


def downgrade() -> None:
    op.drop_table("worker")
