"""The entries as a view, and the guards that keep the journal append-only."""

import time

import sqlalchemy as sa
from alembic import op

from tallystick.migrations.guards import guard, unguard

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _create_refusal()
    guard()
    op.execute(
        sa.text(
            "INSERT INTO installation (id, boots, created_at_ms) VALUES (1, 0, :at)"
        ).bindparams(at=int(time.time() * 1000))
    )


def _create_refusal() -> None:
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
        END $$
    """)


def downgrade() -> None:
    unguard()
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change()")
    op.execute("DELETE FROM installation")
