"""The whole journal, transfer by transfer."""

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.kernel.db import ReadSession, query
from tallystick.kernel.money import ASSETS, Asset


@dataclass(frozen=True, slots=True)
class Booked:
    """A transfer as it was booked, in its asset's atomic units; times in ms."""

    ledger_transaction_id: int
    position: int
    kind: str
    memo: str
    reference: str
    reverses_id: int | None
    debit: str
    credit: str
    asset: Asset
    amount: int
    occurred_at_ms: int
    posted_at_ms: int

    @property
    def place(self) -> "Place":
        return self.ledger_transaction_id, self.position


_PAGE = """
    SELECT ledger_transaction_id, position, kind, memo, reference, reverses_id,
           debit.code AS debit, credit.code AS credit, debit.asset, transfer.amount,
           occurred_at_ms, posted_at_ms
      FROM transfer
      JOIN ledger_transaction ON ledger_transaction.id = ledger_transaction_id
      JOIN ledger_account AS debit ON debit.id = debit_account_id
      JOIN ledger_account AS credit ON credit.id = credit_account_id
     WHERE (ledger_transaction_id, position) > (:transaction_id, :position)
     ORDER BY ledger_transaction_id, position
     LIMIT :limit"""
Place = tuple[int, int]
"""Where a transfer stands: its transaction's id, and its position in it."""
BEFORE_THE_FIRST: Place = (0, 0)


async def transfers(
    session: ReadSession, *, after: Place, limit: int
) -> Sequence[Booked]:
    """The next transfers in the order of their transactions' ids, which rise with time.

    A transaction that took long may be committed after one with higher ids. So all
    pages of one journal belong in one snapshot (``Database.snapshot``).
    """
    found, position = after
    rows = await query(
        session, _PAGE, transaction_id=found, position=position, limit=limit
    )
    return [Booked(**{**row, "asset": ASSETS[row["asset"]]}) for row in rows]


async def count_transfers(session: ReadSession) -> int:
    """How many there are; it reads them all, so no request waits for it."""
    (row,) = await query(session, "SELECT COUNT(*) AS found FROM transfer")
    return int(row["found"])
