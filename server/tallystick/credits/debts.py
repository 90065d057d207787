"""What a customer owes: what he has spent of credits whose payment vanished.

A payment can vanish after its credits were granted: a chain replaces its blocks, a bank
takes a card payment back. Then all of the grant is taken back. What is left of its lot
goes at once. What was spent or is held is owed, on ``chart.receivable``, because no
balance is ever below zero. Credits that come back later to that lot, and the credits of
the same payment when it arrives after all, go towards it first (``collect``). What he
buys otherwise is his. What comes back to that lot is collected by the sweeper
(``collect_due``), seconds later: what he spends of it before stays owed.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from tallystick.credits.models import Grant, Receivable
from tallystick.credits.refunds import left_of
from tallystick.kernel.db import (
    ReadSession,
    WriteSession,
    insert_once,
    new_id,
    query,
)
from tallystick.kernel.money import ASSETS, CREDIT, Amount, MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.accounts import ensure_accounts
from tallystick.ledger.change import lock_accounts
from tallystick.ledger.chart import AccountName
from tallystick.ledger.journal import find_posted, post
from tallystick.ledger.lots import Draw
from tallystick.ledger.models import LedgerAccount, TransactionKind, TransferRow
from tallystick.ledger.posting import FromLots, Posted, Posting, Transfer
from tallystick.ledger.references import reference_to
from tallystick.ledger.reversals import reversed_so_far

_DEBTORS = "SELECT customer_id FROM receivable WHERE owed > 0"
_LEFT_IN_CLAWED = """
    SELECT lot_left.id FROM credit_grant
      JOIN lot_left ON lot_left.id = credit_grant.id
     WHERE credit_grant.customer_id = :customer_id AND lot_left.remaining > 0
       AND EXISTS (
           SELECT 1 FROM reversed
            WHERE reversed.ledger_transaction_id = credit_grant.ledger_transaction_id
              AND asset = 'CREDIT' AND reversed.reversed = reversed.amount)"""


@dataclass(frozen=True, slots=True)
class _Side:
    """One transfer of what is taken back."""

    debit: AccountName
    credit: AccountName
    amount: int
    lot_id: int | None


async def claw_back(
    session: WriteSession,
    original: int,
    *,
    idempotency_key: bytes,
    reference: str,
    memo: str,
) -> Posted | None:
    """Take back all of a top-up or a grant, once per key; what was spent is owed.

    ``None`` when nothing of it is left to be taken back.

    ``original`` is its transaction. Raises ``AlreadyReversed`` when another key did.
    """
    sides = await _sides(session, original)
    # Nobody books the same, spends of it or takes a part of it back meanwhile.
    customers = [one.credit.customer_id for one in sides]
    await lock_accounts(session, [one for one in customers if one is not None])
    earlier = await find_posted(session, idempotency_key, reverses_id=original)
    if earlier is not None:
        return earlier
    before = await reversed_so_far(session, original, CREDIT.code)
    transfers: list[Transfer] = []
    owed: dict[int, int] = {}
    for one in sides:
        customer_id = one.credit.customer_id
        if customer_id is None:
            money = Amount(one.amount, one.debit.asset)
            transfers.append(Transfer(one.credit, one.debit, money))
        else:
            left = await _left(session, customer_id, one, before)
            owed[customer_id] = one.amount - before - left
            transfers += _credits_back(customer_id, one, left, owed[customer_id])
    if not transfers:
        return None
    posted = await post(
        session,
        Posting(
            TransactionKind.REVERSAL,
            idempotency_key,
            transfers,
            reference,
            memo,
            reverses_id=original,
        ),
    )
    for customer_id, amount in owed.items():
        await change_debt(session, customer_id, amount)
    return posted


async def _sides(session: WriteSession, transaction_id: int) -> list[_Side]:
    debit, credit = aliased(LedgerAccount), aliased(LedgerAccount)
    wanted = (
        select(debit, credit, TransferRow.amount, col(TransferRow.lot_id))
        .join(debit, col(debit.id) == col(TransferRow.debit_account_id))
        .join(credit, col(credit.id) == col(TransferRow.credit_account_id))
        .where(col(TransferRow.ledger_transaction_id) == transaction_id)
        .order_by(col(TransferRow.position))
    )
    rows = (await session.exec(wanted)).all()
    return [
        _Side(_name(one), _name(other), amount, lot_id)
        for one, other, amount, lot_id in rows
    ]


def _name(account: LedgerAccount) -> AccountName:
    return AccountName(account.code, ASSETS[account.asset], account.customer_id)


async def _left(
    session: WriteSession, customer_id: int, one: _Side, before: int
) -> int:
    assert one.lot_id is not None, "a grant opens one lot"
    left = await left_of(session, customer_id, one.lot_id)
    return min(left, one.amount - before)


def _credits_back(customer_id: int, one: _Side, left: int, owed: int) -> list[Transfer]:
    source = FromLots((Draw(one.lot_id or 0, left),))
    parts = (
        (one.credit, left, source),
        (chart.receivable(customer_id), owed, None),
    )
    return [
        Transfer(account, one.debit, Amount(part, CREDIT), source=lots)
        for account, part, lots in parts
        if part
    ]


async def collect(
    session: WriteSession, customer_id: int, lot_ids: Iterable[int]
) -> int:
    """Put what is left in these lots towards the customer's debt; how much, in all.

    In micro-credits.
    """
    total = 0
    for lot_id in lot_ids:
        # The account stays locked from here on, and with it the debt.
        left = await left_of(session, customer_id, lot_id)
        amount = min(left, await owed_by(session, customer_id))
        if amount:
            await _collect(session, customer_id, lot_id, amount)
            total += amount
    return total


async def collect_due(session: WriteSession) -> int:
    """Collect what came back to lots that were clawed back; how much, in all.

    From a hold that was released, or a charge that was refunded. In micro-credits.
    """
    total = 0
    for one in await query(session, _DEBTORS):
        debtor = one["customer_id"]
        lots = await query(session, _LEFT_IN_CLAWED, customer_id=debtor)
        total += await collect(session, debtor, [lot["id"] for lot in lots])
    return total


async def collect_from(
    session: WriteSession, customer_id: int, granted: Iterable[int]
) -> int:
    """The same from the lots that these transactions have opened."""
    if not await owed_by(session, customer_id):
        return 0
    transactions = col(Grant.ledger_transaction_id).in_(list(granted))
    lots = (await session.exec(select(Grant.id).where(transactions))).all()
    return await collect(session, customer_id, lots)


async def owed_by(
    session: ReadSession | WriteSession, customer_id: int
) -> MicroCredits:
    """What the customer owes, in micro-credits."""
    mine = select(Receivable.owed).where(col(Receivable.customer_id) == customer_id)
    return MicroCredits((await session.exec(mine)).one_or_none() or 0)


async def _collect(
    session: WriteSession, customer_id: int, lot_id: int, amount: int
) -> None:
    debt = chart.receivable(customer_id)
    paid = Transfer(
        chart.customer_credits(customer_id),
        debt,
        Amount(amount, CREDIT),
        source=FromLots((Draw(lot_id, amount),)),
    )
    key = digest16(b"collected", new_id(session).to_bytes(8, "big"))
    reference, memo = reference_to("grant", lot_id), "Owed for a payment that vanished"
    await post(
        session, Posting(TransactionKind.COLLECTION, key, [paid], reference, memo)
    )
    await change_debt(session, customer_id, -amount)


async def change_debt(session: WriteSession, customer_id: int, change: int) -> None:
    """Needs the lock of the customer's account."""
    if not change:
        return
    debt = chart.receivable(customer_id)
    account_id = (await ensure_accounts(session, [debt]))[debt.code]
    row: dict[str, object] = {
        "ledger_account_id": account_id,
        "customer_id": customer_id,
        "owed": 0,
    }
    await insert_once(session, Receivable, row)
    done = await session.exec(
        update(Receivable)
        .where(
            col(Receivable.ledger_account_id) == account_id,
            col(Receivable.owed) + change >= 0,
        )
        .values(owed=Receivable.owed + change)
        .execution_options(synchronize_session=False)
    )
    if done.rowcount != 1:
        raise AssertionError("a debt changed under its customer's lock")
