"""Taking back: a refund of a charge, and the void of a grant.

Both are reversals: new transactions that name the old one. Several may share one
original and together never exceed it. Credits return to the very lots that they were
drawn from, the last drawn first. What returns to a lot that has expired is breakage at
once: a refund makes nothing spendable that would not be so without the charge. Whoever
wants to be kinder gives a grant.

The customer's account is locked before the key and what is left are looked up, so that
of several copies at once one is booked and the others are told of it. A refund of a part
locks it first, too: else it and one of the whole could wait for each other.
"""

from collections.abc import Sequence

from sqlalchemy.orm import aliased
from sqlmodel import col, select

from tallystick.credits.errors import NothingToTakeBack, UnknownCharge, UnknownGrant
from tallystick.credits.models import Grant
from tallystick.kernel.db import WriteSession, now_ms
from tallystick.kernel.money import CREDIT, Amount, MicroCredits
from tallystick.ledger.change import change, lock_accounts
from tallystick.ledger.chart import AccountName, customer_credits
from tallystick.ledger.journal import find_posted, post
from tallystick.ledger.lots import Draw
from tallystick.ledger.models import (
    LedgerAccount,
    LedgerTransaction,
    TransactionKind,
    TransferRow,
)
from tallystick.ledger.page import Page
from tallystick.ledger.posting import FromLots, Posted, Posting, Transfer
from tallystick.ledger.reversals import reversed_so_far


async def refund(
    session: WriteSession,
    charge_id: int,
    amount: MicroCredits | None = None,
    *,
    idempotency_key: bytes,
    reference: str,
    memo: str = "Refund",
) -> Posted:
    """Give back what a charge took, all that is left of it unless ``amount`` says less.

    Raises ``UnknownCharge``, ``AlreadyReversed``, ``ReversalTooLarge``,
    ``InvalidAmount`` or ``IdempotencyMismatch``; then nothing is given back.
    """
    customer_id, house, taken = await _charge(session, charge_id)
    await lock_accounts(session, [customer_id])
    if amount is None:
        earlier = await find_posted(session, idempotency_key, reverses_id=charge_id)
        if earlier is not None:
            return earlier
        before = await reversed_so_far(session, charge_id, CREDIT.code)
        # Nothing left: the journal says so, and in the right words.
        amount = MicroCredits(taken - before or taken)
    back = Transfer(house, customer_credits(customer_id), Amount(amount, CREDIT))
    return await _reverse(session, charge_id, back, idempotency_key, reference, memo)


async def void(
    session: WriteSession,
    grant_id: int,
    *,
    idempotency_key: bytes,
    reference: str,
    memo: str = "Grant taken back",
) -> Posted:
    """Take back what is left of a grant, spendable or not yet; where it came from.

    What is held stays with its call; if it comes back later, void again with another
    key. A bought grant's money is not moved by this. Raises ``UnknownGrant``, and
    ``NothingToTakeBack`` when all was spent, is held or has expired.
    """
    grant = await _grant(session, grant_id)
    original = grant.ledger_transaction_id
    await lock_accounts(session, [grant.customer_id])
    earlier = await find_posted(session, idempotency_key, reverses_id=original)
    if earlier is not None:
        return earlier
    left = await left_of(session, grant.customer_id, grant.id)
    if not left:
        raise NothingToTakeBack(grant_id)
    house = await _giver(session, grant)
    back = Transfer(
        customer_credits(grant.customer_id),
        house,
        Amount(left, CREDIT),
        source=FromLots((Draw(grant_id, left),)),
    )
    return await _reverse(session, original, back, idempotency_key, reference, memo)


async def _reverse(
    session: WriteSession,
    original: int,
    back: Transfer,
    key: bytes,
    reference: str,
    memo: str,
) -> Posted:
    kind = TransactionKind.REVERSAL
    return await post(
        session, Posting(kind, key, [back], reference, memo, reverses_id=original)
    )


async def _charge(
    session: WriteSession, charge_id: int
) -> tuple[int, AccountName, int]:
    """Whom it charged, for what, and how much."""
    sides = await _sides(session, charge_id, TransactionKind.CHARGE)
    if len(sides) != 1:
        raise UnknownCharge(charge_id)
    ((customer_id, _, code, amount),) = sides
    if customer_id is None:
        raise UnknownCharge(charge_id)
    return customer_id, AccountName(code, CREDIT), amount


async def _grant(session: WriteSession, grant_id: int) -> Grant:
    grant = (
        await session.exec(select(Grant).where(col(Grant.id) == grant_id))
    ).one_or_none()
    if grant is None:
        raise UnknownGrant(grant_id)
    return grant


async def left_of(session: WriteSession, customer_id: int, lot_id: int) -> int:
    """What is left in a lot, in micro-credits, neither spent nor held nor expired.

    Nobody can take of it meanwhile: the account stays locked by this.
    """

    def work(page: Page) -> int:
        return page.accounts[customer_id].lots[lot_id].remaining

    return await change(
        session, [customer_id], work, now=now_ms(session), named=[lot_id]
    )


async def _giver(session: WriteSession, grant: Grant) -> AccountName:
    sides = await _sides(session, grant.ledger_transaction_id, None)
    (code,) = {giver for _, giver, taker, _ in sides if taker == _name(grant)}
    return AccountName(code, CREDIT)


def _name(grant: Grant) -> str:
    return customer_credits(grant.customer_id).code


async def _sides(
    session: WriteSession, transaction_id: int, kind: TransactionKind | None
) -> Sequence[tuple[int | None, str, str, int]]:
    debit, credit = aliased(LedgerAccount), aliased(LedgerAccount)
    query = (
        select(col(debit.customer_id), debit.code, credit.code, TransferRow.amount)
        .join(
            LedgerTransaction,
            col(LedgerTransaction.id) == col(TransferRow.ledger_transaction_id),
        )
        .join(debit, col(debit.id) == col(TransferRow.debit_account_id))
        .join(credit, col(credit.id) == col(TransferRow.credit_account_id))
        .where(col(LedgerTransaction.id) == transaction_id)
    )
    if kind is not None:
        query = query.where(col(LedgerTransaction.kind) == kind)
    return (await session.exec(query)).all()
