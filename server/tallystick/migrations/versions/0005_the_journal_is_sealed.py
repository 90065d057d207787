"""A hash chain over the journal, and no right left to change what is posted."""

import sqlalchemy as sa
from alembic import op

from tallystick.migrations.columns import BIG, big, blob, index, table
from tallystick.migrations.guards import allow_changes, refuse_changes
from tallystick.migrations.rights import return_rights, take_rights

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table(
        "journal_seal",
        big("number"),
        big("first_id"),
        big("last_id"),
        big("sealed_at_ms"),
        blob("previous", 32),
        blob("digest", 32),
        sa.Column("transaction_ids", sa.LargeBinary(), nullable=False),
        sa.Column("digests", sa.LargeBinary(), nullable=False),
        key=("number",),
    )
    index("ix_journal_seal_last_id", "journal_seal", ["last_id"])
    _count_seals()
    refuse_changes("journal_seal")
    take_rights()


def _count_seals() -> None:
    with op.batch_alter_table("installation") as installation:
        added = sa.Column("seals", BIG, nullable=False, server_default="0")
        installation.add_column(added)
    with op.batch_alter_table("installation") as installation:
        installation.alter_column("seals", server_default=None)


def downgrade() -> None:
    """The seals are gone then; what is posted stays."""
    return_rights()
    allow_changes("journal_seal")
    op.drop_table("journal_seal")
    op.drop_column("installation", "seals")
