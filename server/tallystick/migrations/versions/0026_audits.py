"""How far the books were audited by the servers themselves, and what they found."""

from alembic import op

from tallystick.migrations.columns import big, blob, table, text

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table(
        "books_audit",
        text("kind"),
        big("since_ms"),
        big("audited_ms", null=True),
        big("due_ms"),
        big("claimed_until_ms"),
        blob("claimant", 16, null=True),
        text("findings"),
        big("seal_number", null=True),
        blob("seal_digest", 32, null=True),
        big("through_id"),
        big("slice_after"),
        key=("kind",),
    )


def downgrade() -> None:
    op.drop_table("books_audit")
