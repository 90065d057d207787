"""The whole journal, transfer by transfer."""

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.kernel.db import ReadSession, query
from tallystick.kernel.money import ASSETS, Asset


@dataclass(frozen=True, slots=True)
class Booked:
    """A transfer as it was booked, in its asset's atomic units; times in ms."""

    id: int
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


_PAGE = """
    SELECT transfer.id, ledger_transaction_id, position, kind, memo, reference,
           reverses_id, debit.code AS debit, credit.code AS credit, debit.asset,
           transfer.amount, occurred_at_ms, posted_at_ms
      FROM transfer
      JOIN ledger_transaction ON ledger_transaction.id = ledger_transaction_id
      JOIN ledger_account AS debit ON debit.id = debit_account_id
      JOIN ledger_account AS credit ON credit.id = credit_account_id
     WHERE transfer.id > :after
     ORDER BY transfer.id
     LIMIT :limit"""


async def transfers(
    session: ReadSession, *, after: int, limit: int
) -> Sequence[Booked]:
    """The next transfers by their ids, which rise with time.

    A transaction that took long may be committed after one with higher ids. So all
    pages of one journal belong in one snapshot (``Database.snapshot``).
    """
    rows = await query(session, _PAGE, after=after, limit=limit)
    return [Booked(**{**row, "asset": ASSETS[row["asset"]]}) for row in rows]


async def count_transfers(session: ReadSession) -> int:
    """How many there are; it reads them all, so no request waits for it."""
    (row,) = await query(session, "SELECT COUNT(*) AS found FROM transfer")
    return int(row["found"])
