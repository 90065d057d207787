"""One transaction in full, for the customer whose credits it moved.

A transaction may move credits of two customers. Each sees his own entries and lots, and
those of the house that are no other's: nobody learns who the other is, what he has, or
what he paid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import RowMapping
from sqlmodel import col, select

from tallystick.kernel.db import ReadSession, query
from tallystick.kernel.money import ASSETS, Asset, MicroCredits
from tallystick.ledger.errors import UnknownTransaction
from tallystick.ledger.lots import Draw, unpack
from tallystick.ledger.models import LotRow
from tallystick.ledger.statement import StatementLine

_MOST_REVERSALS = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One side of a transfer, in the asset's atomic units: negative for the debit.

    The customer's own tells the balance after it; the house's accounts have none.
    """

    account: str
    asset: Asset
    amount: int
    balance_after: int | None


@dataclass(frozen=True, slots=True)
class Reversal:
    """A later transaction that took some of it back; what it moved of the customer's."""

    ledger_transaction_id: int
    amount: MicroCredits


@dataclass(frozen=True, slots=True)
class Explanation:
    """A transaction as one customer may see it.

    ``line`` is that of his statement; where a transaction has several, their sum and
    the last balance. ``draws`` are of his own lots: negative for what was taken.
    ``reversed_by`` names the first hundred.
    """

    line: StatementLine
    occurred_at_ms: int
    idempotency_key: bytes | None
    reference: str
    entries: Sequence[Entry]
    draws: Sequence[Draw]
    reverses_id: int | None
    reversed_by: Sequence[Reversal]


_TRANSFERS = """
    SELECT kind, memo, reference, idempotency_key, reverses_id, occurred_at_ms,
           posted_at_ms, transfer.amount, transfer.lot_id, transfer.lots, debit.asset,
           debit.id AS debit_id, debit.code AS debit_code,
           debit.customer_id AS debit_customer_id, debit_balance_after, debit_version,
           credit.id AS credit_id, credit.code AS credit_code,
           credit.customer_id AS credit_customer_id, credit_balance_after,
           credit_version
      FROM ledger_transaction
      JOIN transfer ON transfer.ledger_transaction_id = ledger_transaction.id
      JOIN ledger_account AS debit ON debit.id = transfer.debit_account_id
      JOIN ledger_account AS credit ON credit.id = transfer.credit_account_id
     WHERE ledger_transaction.id = :id
     ORDER BY transfer.position"""
_REVERSALS = """
    SELECT ledger_transaction.id,
           SUM(CASE WHEN credit_account_id = :account_id THEN amount
                    ELSE -amount END) AS amount
      FROM ledger_transaction
      JOIN transfer ON transfer.ledger_transaction_id = ledger_transaction.id
     WHERE reverses_id = :id
       AND (debit_account_id = :account_id OR credit_account_id = :account_id)
     GROUP BY ledger_transaction.id
     ORDER BY ledger_transaction.id
     LIMIT :limit"""


class _Side(NamedTuple):
    """A transfer seen from one of its accounts."""

    account_id: int
    code: str
    customer_id: int | None
    other_customer_id: int | None
    asset: Asset
    amount: int
    balance_after: int | None
    version: int | None

    def is_shown_to(self, customer_id: int) -> bool:
        if self.customer_id is not None:
            return self.customer_id == customer_id
        return self.other_customer_id in {None, customer_id}


async def explain(
    session: ReadSession, customer_id: int, ledger_transaction_id: int
) -> Explanation:
    """What the transaction was to this customer; raises ``UnknownTransaction``.

    That also for a transaction that moved none of his credits.
    """
    rows = await query(session, _TRANSFERS, id=ledger_transaction_id)
    sides = [side for row in rows for side in _sides(row)]
    own = [side for side in sides if side.customer_id == customer_id]
    if not own:
        raise UnknownTransaction
    head, account_id = rows[0], own[0].account_id
    draws: Sequence[Draw] = [draw for row in rows for draw in _draws(row)]
    if {side.customer_id for side in sides} - {None, customer_id}:
        draws = await _of_account(session, account_id, draws)
    return Explanation(
        _line(ledger_transaction_id, head, own),
        head["occurred_at_ms"],
        head["idempotency_key"],
        head["reference"],
        [_entry(side) for side in sides if side.is_shown_to(customer_id)],
        draws,
        head["reverses_id"],
        await _reversals(session, ledger_transaction_id, account_id),
    )


def _sides(row: RowMapping) -> tuple[_Side, _Side]:
    debit, credit = (
        _Side(
            row[f"{side}_id"],
            row[f"{side}_code"],
            row[f"{side}_customer_id"],
            row[f"{other}_customer_id"],
            ASSETS[row["asset"]],
            sign * row["amount"],
            row[f"{side}_balance_after"],
            row[f"{side}_version"],
        )
        for side, other, sign in (("debit", "credit", -1), ("credit", "debit", 1))
    )
    return debit, credit


def _draws(row: RowMapping) -> Sequence[Draw]:
    """Of whichever customers: negative for what left a lot."""
    sign = 1 if row["debit_version"] is None else -1
    return unpack(row["lot_id"], row["lots"], sign * row["amount"])


async def _of_account(
    session: ReadSession, account_id: int, draws: Sequence[Draw]
) -> Sequence[Draw]:
    own = select(LotRow.id).where(
        col(LotRow.id).in_([draw.lot_id for draw in draws]),
        col(LotRow.ledger_account_id) == account_id,
    )
    ids = set((await session.exec(own)).all())
    return [draw for draw in draws if draw.lot_id in ids]


def _line(
    ledger_transaction_id: int, head: RowMapping, own: Sequence[_Side]
) -> StatementLine:
    last = max(own, key=lambda side: side.version or 0)
    assert last.version is not None, "a customer's lines are numbered"
    assert last.balance_after is not None, "a customer's lines tell the balance"
    return StatementLine(
        ledger_transaction_id,
        last.version,
        head["kind"],
        head["memo"],
        MicroCredits(sum(side.amount for side in own)),
        MicroCredits(last.balance_after),
        head["posted_at_ms"],
    )


def _entry(side: _Side) -> Entry:
    return Entry(side.code, side.asset, side.amount, side.balance_after)


async def _reversals(
    session: ReadSession, ledger_transaction_id: int, account_id: int
) -> Sequence[Reversal]:
    rows = await query(
        session,
        _REVERSALS,
        id=ledger_transaction_id,
        account_id=account_id,
        limit=_MOST_REVERSALS,
    )
    # PostgreSQL sums 64-bit integers to a Decimal.
    return [Reversal(row["id"], MicroCredits(int(row["amount"]))) for row in rows]
