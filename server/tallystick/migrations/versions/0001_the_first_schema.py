"""The first schema."""

from alembic import op

from tallystick.migrations.first_schema import TABLES

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    for create in TABLES.values():
        create()


def downgrade() -> None:
    """The indexes go with their tables."""
    for table in reversed(TABLES):
        op.drop_table(table)
