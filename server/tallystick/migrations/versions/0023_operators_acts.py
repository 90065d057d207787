"""What operators did by hand, and why; append-only."""

from alembic import op

from tallystick.migrations.columns import big, index, table, text
from tallystick.migrations.guards import allow_changes, refuse_changes

revision = "0023"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table(
        "operator_act",
        big("id"),
        text("operator"),
        text("act"),
        text("subject"),
        text("reason", null=True),
        big("at_ms"),
        checks={"operator": "operator <> ''", "reason": "reason <> ''"},
    )
    index("ix_operator_act_subject", "operator_act", ["subject"])
    refuse_changes("operator_act")


def downgrade() -> None:
    """Fails while anything is noted there."""
    op.execute("CREATE TABLE nothing_may_be_noted (one INTEGER CHECK (one = 0))")
    op.execute("INSERT INTO nothing_may_be_noted SELECT 1 FROM operator_act")
    op.drop_table("nothing_may_be_noted")
    allow_changes("operator_act")
    op.drop_table("operator_act")
