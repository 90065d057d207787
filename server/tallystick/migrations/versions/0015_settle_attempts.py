"""What facilitators were asked to settle, and what they said."""

from alembic import op

from tallystick.migrations.columns import big, blob, small, table, text

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table(
        "settle_attempt",
        big("topup_id"),
        small("attempt"),
        text("facilitator"),
        big("asked_at"),
        big("sent_at_ms"),
        big("waits_ms"),
        big("answered_at_ms", null=True),
        text("answer", null=True),
        small("status", null=True),
        text("reason", null=True),
        blob("tx_hash", 32, null=True),
        blob("proven_hash", 32, null=True),
        key=("topup_id", "attempt"),
        refers={"topup_id": "topup.id"},
        checks={
            "waits_ms": "waits_ms >= 0",
            "answer": "answer IN ('settled', 'pending', 'failed', 'unclear',"
            " 'unreachable')",
        },
    )


def downgrade() -> None:
    """Fails once a facilitator was asked: it may still settle what it was given."""
    op.execute("CREATE TABLE nothing_may_be_asked (one INTEGER CHECK (one = 0))")
    op.execute("INSERT INTO nothing_may_be_asked SELECT 1 FROM settle_attempt LIMIT 1")
    op.drop_table("nothing_may_be_asked")
    op.drop_table("settle_attempt")
