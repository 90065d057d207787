"""What was never settled is found by its window, however it came to nothing."""

from alembic import op

from tallystick.migrations.columns import index

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_STATES = "state IN ('rejected', 'expired', 'canceled')"


def upgrade() -> None:
    op.drop_index("ix_topup_rejected_valid_before", "topup")
    index("ix_topup_failed_valid_before", "topup", ["valid_before"], where=_STATES)


def downgrade() -> None:
    op.drop_index("ix_topup_failed_valid_before", "topup")
    rejected = "state = 'rejected'"
    index("ix_topup_rejected_valid_before", "topup", ["valid_before"], where=rejected)
