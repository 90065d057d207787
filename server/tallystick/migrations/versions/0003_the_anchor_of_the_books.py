"""A final block of the chain that the books are made on, to know that chain again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("chain_cursor") as table:
        table.add_column(sa.Column("anchor_number", BIG, nullable=True))
        table.add_column(sa.Column("anchor_hash", sa.LargeBinary(32), nullable=True))
        table.create_check_constraint(
            op.f("ck_chain_cursor_anchor"),
            "(anchor_number IS NULL) = (anchor_hash IS NULL)",
        )


def downgrade() -> None:
    with op.batch_alter_table("chain_cursor") as table:
        table.drop_constraint(op.f("ck_chain_cursor_anchor"), type_="check")
        table.drop_column("anchor_hash")
        table.drop_column("anchor_number")
