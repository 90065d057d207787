"""Workers say of each way of payment what is in it."""

from alembic import op

from tallystick.migrations.columns import text

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_NEW = ("permit2_obstacle", "erc6492_obstacle")


def upgrade() -> None:
    # Those who are there say so again within seconds, and then in full.
    op.execute("DELETE FROM worker")
    for name in _NEW:
        op.add_column("worker", text(name, null=True))


def downgrade() -> None:
    for name in _NEW:
        op.drop_column("worker", name)
