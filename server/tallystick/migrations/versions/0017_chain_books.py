"""Money that leaves ``pay_to``, the addresses that were it, and compared blocks.

Of books that exist already the outflows are still to be read; until then the payee
says which blocks those are in.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from tallystick.migrations.columns import big, blob, index, small, table, text

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_PRESENCE = "presence IN ('booked', 'missing', 'gone')"
_BOOKS = ("chain_id", "token", "pay_to")


def upgrade() -> None:
    _make_outflows()
    table(
        "payee",
        *_books(),
        big("since_ms"),
        big("unread_from", null=True),
        big("unread_to", null=True),
        big("dust_upto", null=True),
        key=_BOOKS,
        checks={"unread_blocks": "(unread_from IS NULL) = (unread_to IS NULL)"},
    )
    op.execute("""
        INSERT INTO payee
        SELECT chain_id, token, pay_to, 0,
               CASE WHEN block_number >= first_block THEN first_block END,
               CASE WHEN block_number >= first_block THEN block_number END,
               block_number
          FROM chain_cursor""")
    table(
        "chain_dust",
        *_books(),
        big("first_block"),
        big("last_block"),
        small("transfers"),
        big("value"),
        big("gathered_at_ms"),
        key=(*_BOOKS, "first_block"),
        checks={
            "value": "value > 0 AND transfers > 0",
            "blocks": "first_block <= last_block",
        },
    )
    table(
        "chain_checkpoint",
        *_books(),
        big("block_number"),
        blob("block_hash", 32),
        big("came_in"),
        big("went_out"),
        big("ledger_through_id"),
        big("ledger_usdc"),
        big("made_at_ms"),
        blob("before", 16),
        blob("digest", 16),
        key=(*_BOOKS, "block_number"),
        unique={"chain_id_token_pay_to_before": (*_BOOKS, "before")},
    )


def downgrade() -> None:
    """Fails on books in which money has left, or dust came in: the ledger has it."""
    op.execute("CREATE TABLE nothing_may_be_swept (one INTEGER CHECK (one = 0))")
    op.execute("INSERT INTO nothing_may_be_swept SELECT 1 FROM chain_outflow LIMIT 1")
    op.execute("INSERT INTO nothing_may_be_swept SELECT 1 FROM chain_dust LIMIT 1")
    op.drop_table("nothing_may_be_swept")
    op.drop_table("chain_dust")
    op.drop_table("chain_checkpoint")
    op.drop_table("payee")
    op.drop_table("chain_outflow")


def _books() -> tuple[sa.Column[Any], ...]:
    return big("chain_id"), blob("token", 20), blob("pay_to", 20)


def _make_outflows() -> None:
    name = "chain_outflow"
    table(
        name,
        big("id"),
        big("chain_id"),
        blob("token", 20),
        big("block_number"),
        blob("block_hash", 32),
        blob("tx_hash", 32),
        small("log_index"),
        blob("pay_to", 20),
        blob("recipient", 20),
        big("value"),
        big("seen_at_ms"),
        text("presence"),
        small("generation"),
        checks={"value": "value > 0", "presence": _PRESENCE},
        unique={
            "chain_id_block_hash_log_index": ("chain_id", "block_hash", "log_index")
        },
    )
    index(f"ix_{name}_block_number", name, ["chain_id", "block_number"])
    some = "presence = 'missing'"
    index(f"ix_{name}_missing", name, ["chain_id", "block_number"], where=some)
