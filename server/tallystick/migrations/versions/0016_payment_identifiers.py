"""The payer's own name for a payment: one claim of his has it, and no other."""

from alembic import op

from tallystick.migrations.columns import blob, index

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("claim", blob("identifier", 16, null=True))
    index(
        "uq_claim_identifier",
        "claim",
        ["payer", "identifier"],
        where="identifier IS NOT NULL",
        unique=True,
    )


def downgrade() -> None:
    op.drop_index(op.f("uq_claim_identifier"), "claim")
    op.drop_column("claim", "identifier")
