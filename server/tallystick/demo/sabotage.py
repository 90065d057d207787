"""Proof that the audit would notice: something is done to the books behind its back.

Both need the database file and what no server gives away; the guards that refuse such
changes are dropped first.
"""

import sqlite3
import time
from contextlib import closing
from enum import StrEnum
from pathlib import Path


class Sabotage(StrEnum):
    """What to do to the books before they are audited."""

    ENTRY = "entry"
    """Give the first buyer one credit more than his payment bought."""
    TRANSFER = "transfer"
    """Forget the first Transfer: that it came in, and its dollars in the ledger."""


# A top-up's postings: dollars onto the chain's account, credits onto the customer's.
_TOPUPS = """
CREATE TEMP VIEW topups AS
    SELECT ledger_transaction_id, position, credited.customer_id, debited.code AS debited
      FROM transfer
      JOIN ledger_transaction ON ledger_transaction.id = ledger_transaction_id
      JOIN ledger_account AS credited ON credited.id = credit_account_id
      JOIN ledger_account AS debited ON debited.id = debit_account_id
     WHERE ledger_transaction.kind = 'topup'
"""
_STATEMENTS = {
    Sabotage.ENTRY: (
        "DROP TRIGGER transfer_refuses_update",
        """UPDATE transfer SET amount = amount + 1000000
            WHERE (ledger_transaction_id, position) = (
                SELECT ledger_transaction_id, position FROM topups
                 WHERE customer_id IS NOT NULL ORDER BY 1, 2 LIMIT 1)""",
    ),
    Sabotage.TRANSFER: (
        "DROP TRIGGER transfer_refuses_delete",
        """DELETE FROM transfer
            WHERE (ledger_transaction_id, position) = (
                SELECT ledger_transaction_id, position FROM topups
                 WHERE debited LIKE 'assets:chain:%' ORDER BY 1, 2 LIMIT 1)""",
        "DELETE FROM chain_transfer WHERE id = (SELECT MIN(id) FROM chain_transfer)",
    ),
}


_UNREAD = """
SELECT COUNT(*) FROM chain_transfer
 WHERE block_number > (SELECT block_number FROM chain_cursor)
"""
_PATIENCE_SECONDS = 15


def sabotage(database: Path, what: Sabotage) -> None:
    """Do it to a SQLite file, whose server may be running."""
    with closing(sqlite3.connect(database, timeout=10)) as books, books:
        _await_observer(books)
        books.execute(_TOPUPS)
        for statement in _STATEMENTS[what]:
            changed = books.execute(statement).rowcount
            assert changed != 0, "there was something to change"


def _await_observer(books: sqlite3.Connection) -> None:
    # The observer would find a Transfer again that is forgotten before it came by.
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while books.execute(_UNREAD).fetchone()[0] and time.monotonic() < deadline:
        time.sleep(0.1)
