"""What is posted, read from the database as the digests that seals hold.

The columns and their order are part of what is hashed: never change them. A column that
is added later needs a second format (docs/decisions/0014).
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from tallystick.kernel.db import ReadSession, WriteSession, query
from tallystick.ledger.links import transaction_digest

LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
_TRANSACTIONS = """
    SELECT id, kind, idempotency_key, input_hash, reference, memo, reverses_id,
           occurred_at_ms, posted_at_ms
      FROM ledger_transaction
     WHERE id >= :first AND id <= :last ORDER BY id DESC LIMIT :most"""
# The accounts' own columns too: what a line says depends on whose account it is.
_TRANSFERS = """
    SELECT transfer.ledger_transaction_id, transfer.position,
           transfer.debit_account_id, debit.code AS debit_code,
           debit.asset AS debit_asset, debit.customer_id AS debit_customer_id,
           transfer.credit_account_id, credit.code AS credit_code,
           credit.asset AS credit_asset, credit.customer_id AS credit_customer_id,
           transfer.amount, transfer.debit_balance_after, transfer.debit_version,
           transfer.credit_balance_after, transfer.credit_version,
           transfer.lot_id, transfer.lots
      FROM transfer
      LEFT JOIN ledger_account AS debit ON debit.id = transfer.debit_account_id
      LEFT JOIN ledger_account AS credit ON credit.id = transfer.credit_account_id
     WHERE transfer.ledger_transaction_id >= :first
       AND transfer.ledger_transaction_id <= :last
     ORDER BY transfer.ledger_transaction_id, transfer.position"""


async def digests_down(
    session: ReadSession | WriteSession,
    *,
    first: int = LOWEST,
    last: int = HIGHEST,
    most: int = HIGHEST,
) -> dict[int, bytes]:
    """Of the newest transactions between these ids, the newest first."""
    found = await query(session, _TRANSACTIONS, first=first, last=last, most=most)
    if not found:
        return {}
    ends = {"first": found[-1]["id"], "last": found[0]["id"]}
    transfers: dict[int, list[Sequence[Any]]] = defaultdict(list)
    for row in await query(session, _TRANSFERS, **ends):
        transfers[row["ledger_transaction_id"]].append(tuple(row.values())[1:])
    return {
        row["id"]: transaction_digest(tuple(row.values()), transfers[row["id"]])
        for row in found
    }
