"""What is posted, read from the database as the digests that seals hold.

The columns and their order are part of what is hashed: never change them. A column that
is added later needs another format (docs/decisions/0014).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tallystick.kernel.db import ReadSession, WriteSession, query
from tallystick.ledger.links import NEWEST_FORMAT, transaction_digest

LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
_TRANSACTIONS = """
    SELECT id, kind, idempotency_key, input_hash, reference, memo, reverses_id,
           occurred_at_ms, posted_at_ms
      FROM ledger_transaction
     WHERE id >= :first AND id <= :last ORDER BY id DESC LIMIT :most"""
# The accounts' own columns too: what a line says depends on whose account it is. And of
# a lot that it gave to, all that never changes, as whole numbers on either database.
_TRANSFERS = """
    SELECT transfer.ledger_transaction_id, transfer.position,
           transfer.debit_account_id, debit.code AS debit_code,
           debit.asset AS debit_asset, debit.customer_id AS debit_customer_id,
           transfer.credit_account_id, credit.code AS credit_code,
           credit.asset AS credit_asset, credit.customer_id AS credit_customer_id,
           transfer.amount, transfer.debit_balance_after, transfer.debit_version,
           transfer.credit_balance_after, transfer.credit_version,
           transfer.lot_id, transfer.lots,
           lot.ledger_account_id AS lot_account_id, lot.amount AS lot_amount,
           lot.priority, CAST(lot.bought AS INTEGER) AS bought,
           lot.effective_at_ms, lot.expires_at_ms
      FROM transfer
      LEFT JOIN ledger_account AS debit ON debit.id = transfer.debit_account_id
      LEFT JOIN ledger_account AS credit ON credit.id = transfer.credit_account_id
      LEFT JOIN lot ON lot.id = transfer.lot_id
       AND lot.ledger_account_id = transfer.credit_account_id
     WHERE transfer.ledger_transaction_id >= :first
       AND transfer.ledger_transaction_id <= :last
     ORDER BY transfer.ledger_transaction_id, transfer.position"""
_OF_A_LOT = 6  # columns at the end, which the first format has not


@dataclass(frozen=True, slots=True)
class PostedRows:
    """A transaction's row, and those of its transfers with their lots."""

    transaction: Sequence[Any]
    transfers: list[Sequence[Any]] = field(default_factory=list)

    def digest(self, format_: int = NEWEST_FORMAT) -> bytes:
        """16 bytes, as a seal of that format holds them."""
        told = self.transfers
        if format_ == 1:
            told = [one[:-_OF_A_LOT] for one in told]
        return transaction_digest(self.transaction, told, format_=format_)


async def posted_down(
    session: ReadSession | WriteSession,
    *,
    first: int = LOWEST,
    last: int = HIGHEST,
    most: int = HIGHEST,
) -> dict[int, PostedRows]:
    """Of the newest transactions between these ids, the newest first."""
    found = await query(session, _TRANSACTIONS, first=first, last=last, most=most)
    if not found:
        return {}
    ends = {"first": found[-1]["id"], "last": found[0]["id"]}
    posted = {row["id"]: PostedRows(tuple(row.values())) for row in found}
    for row in await query(session, _TRANSFERS, **ends):
        # Nobody keeps a transfer from being slipped in between transactions.
        if (of := posted.get(row["ledger_transaction_id"])) is not None:
            of.transfers.append(tuple(row.values())[1:])
    return posted
