"""The payer's own name for a payment, and the catalogs that offers were made from."""

from alembic import op

from tallystick.migrations.columns import big, blob, index, table, text

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
    table(
        "offered_catalog",
        text("version"),
        text("document"),
        big("last_offered_ms"),
        key=("version",),
    )


def downgrade() -> None:
    op.drop_table("offered_catalog")
    op.drop_index(op.f("uq_claim_identifier"), "claim")
    op.drop_column("claim", "identifier")
