"""Whose nonce moved the money: the token's own (EIP-3009), or Permit2's."""

from alembic import op

from tallystick.migrations.columns import blob

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_TABLES = ("topup", "chain_transfer")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, blob("authority", 20, null=True))


def downgrade() -> None:
    """Fails while there is a payment by Permit2: it would become another's nonce."""
    op.execute("CREATE TABLE nothing_may_be_paid (one INTEGER CHECK (one = 0))")
    some = "INSERT INTO nothing_may_be_paid SELECT 1 FROM"
    op.execute(f"{some} topup WHERE authority IS NOT NULL")
    op.execute(f"{some} chain_transfer WHERE authority IS NOT NULL")
    op.drop_table("nothing_may_be_paid")
    for table in reversed(_TABLES):
        op.drop_column(table, "authority")
