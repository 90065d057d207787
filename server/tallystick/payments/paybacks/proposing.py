"""Proposing a payback, and a second operator's approval.

Ledger first: the credits leave their lot in the write that makes the row, so nobody
spends them while their money is on its way. Every bound is a conditional write.
"""

from dataclasses import dataclass

from sqlalchemy import insert, update
from sqlmodel import col, select

from tallystick.credits.debts import owed_by
from tallystick.credits.models import Grant, GrantCategory
from tallystick.credits.refunds import left_of
from tallystick.kernel.db import Database, WriteSession, insert_once, new_id, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.kernel.money import USDC, MicroCredits
from tallystick.ledger.models import LedgerTransaction
from tallystick.operators.acts import Signed, note_act, operator_named, reason_told
from tallystick.payments.errors import UnknownTopUp
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.crediting import grant_keys
from tallystick.payments.paybacks.booking import book_proposed
from tallystick.payments.paybacks.errors import (
    CustomerOwes,
    NothingToPayBack,
    PaybackNotReady,
    PaybackTooLarge,
    SameOperator,
    TopUpNotFinal,
)
from tallystick.payments.paybacks.models import PaidBack, Payback, PaybackState
from tallystick.payments.paybacks.reading import read_payback
from tallystick.payments.paybacks.terms import payback_nonce
from tallystick.payments.rail import Rail
from tallystick.payments.topups import read_topup

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Who wants what to go back, and why; all that is unused if ``credits`` is None.

    Raises ``UnusableWords`` for a name or a reason that is none.
    """

    topup_id: int
    operator: str
    reason: str
    credits: MicroCredits | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "operator", operator_named(self.operator))
        object.__setattr__(self, "reason", reason_told(self.reason))


async def propose(db: Database, rail: Rail, wanted: Proposal) -> Payback:
    """Take the credits out of their lot, and keep them for the way back.

    Raises ``UnknownTopUp``, ``TopUpNotFinal``, ``NothingToPayBack``,
    ``PaybackTooLarge`` or ``CustomerOwes``; then nothing was taken.
    """
    payback = await db.write(lambda session: _propose(session, rail, wanted))
    _log.info(
        "payback_proposed",
        payback=encode_id("pbk", payback.id),
        topup=encode_id("top", payback.topup_id),
        operator=payback.proposed_by,
        usdc_atomic=payback.usdc,
    )
    return payback


async def _propose(session: WriteSession, rail: Rail, wanted: Proposal) -> Payback:
    topup = await read_topup(session, wanted.topup_id)
    await _require_final(session, rail, topup)
    grant = await _grant_of(session, topup)
    # The account stays locked from here on, and with it the debt.
    left = await left_of(session, topup.customer_id, grant.id)
    await require_no_debt(session, topup.customer_id)
    amount = left if wanted.credits is None else wanted.credits
    if not left:
        raise NothingToPayBack(topup.id)
    if not 0 < amount <= left:
        raise PaybackTooLarge(amount, left)
    assert grant.cost_amount is not None, "what was bought has its cost"
    usdc = amount * grant.cost_amount // grant.amount
    if not usdc:
        raise NothingToPayBack(topup.id)
    number = await _count(session, topup, grant.cost_amount, usdc)
    payback = _row(session, rail, wanted, topup, number, (amount, usdc))
    await session.exec(insert(Payback).values(**payback.model_dump()))
    await book_proposed(session, payback, grant.id)
    signed = Signed(wanted.operator, wanted.reason)
    await note_act(session, signed, "propose_payback", encode_id("pbk", payback.id))
    return payback


async def _require_final(session: WriteSession, rail: Rail, topup: TopUp) -> None:
    """It is final, and stays so until this is written."""
    if (topup.chain_id, bytes(topup.token)) != (
        rail.domain.chain_id,
        rail.domain.contract,
    ):
        raise UnknownTopUp(topup.id)
    final = col(TopUp.id) == topup.id, col(TopUp.state) == TopUpState.FINAL
    kept = update(TopUp).where(*final).values(state=TopUpState.FINAL)
    kept = kept.execution_options(synchronize_session=False)
    if (await session.exec(kept)).rowcount != 1:
        raise TopUpNotFinal(topup.id, topup.state)


async def _grant_of(session: WriteSession, topup: TopUp) -> Grant:
    """What its money bought; a bonus is another grant, of which nothing goes back."""
    bought, _ = grant_keys(topup)
    query = (
        select(Grant)
        .join(
            LedgerTransaction,
            col(LedgerTransaction.id) == col(Grant.ledger_transaction_id),
        )
        .where(
            col(LedgerTransaction.idempotency_key) == bought,
            col(Grant.category) == GrantCategory.PAID,
            col(Grant.cost_asset) == USDC.code,
        )
    )
    grant = (await session.exec(query)).one_or_none()
    if grant is None:  # a payment too small for one micro-credit
        raise NothingToPayBack(topup.id)
    return grant


async def require_no_debt(session: WriteSession, customer_id: int) -> None:
    """Raises ``CustomerOwes``."""
    owed = await owed_by(session, customer_id)
    if owed:
        raise CustomerOwes(owed)


async def _count(session: WriteSession, topup: TopUp, paid: int, usdc: int) -> int:
    """Count it against what was paid; which payback of the top-up it is."""
    row: dict[str, object] = {
        "topup_id": topup.id,
        "paid": paid,
        "usdc": 0,
        "last_number": 0,
    }
    await insert_once(session, PaidBack, row)
    counted = (
        update(PaidBack)
        .where(
            col(PaidBack.topup_id) == topup.id,
            col(PaidBack.usdc) + usdc <= col(PaidBack.paid),
        )
        .values(usdc=PaidBack.usdc + usdc, last_number=PaidBack.last_number + 1)
        .returning(col(PaidBack.last_number))
        .execution_options(synchronize_session=False)
    )
    number = (await session.exec(counted)).scalar_one_or_none()
    if number is None:
        raise NothingToPayBack(topup.id)
    return int(number)


def _row(
    session: WriteSession,
    rail: Rail,
    wanted: Proposal,
    topup: TopUp,
    number: int,
    amounts: tuple[int, int],
) -> Payback:
    credits_back, usdc = amounts
    is_large = usdc > rail.paybacks.approval_above
    now = now_ms(session)
    return Payback(
        id=new_id(session),
        topup_id=topup.id,
        number=number,
        customer_id=topup.customer_id,
        chain_id=topup.chain_id,
        token=bytes(topup.token),
        to_address=bytes(topup.payer),
        credits=credits_back,
        usdc=usdc,
        nonce=payback_nonce(topup, number),
        state=PaybackState.PROPOSED if is_large else PaybackState.APPROVED,
        proposed_by=wanted.operator,
        reason=wanted.reason,
        proposed_at_ms=now,
        changed_at_ms=now,
    )


async def approve(db: Database, payback_id: int, operator: str) -> Payback:
    """A second operator lets a large payback go on.

    Raises ``UnknownPayback``, ``SameOperator``, ``PaybackNotReady``, ``CustomerOwes``
    or ``UnusableWords``.
    """
    name = operator_named(operator)

    async def work(session: WriteSession) -> Payback:
        found = await read_payback(session, payback_id)
        await require_no_debt(session, found.customer_id)
        statement = (
            update(Payback)
            .where(
                col(Payback.id) == payback_id,
                col(Payback.state) == PaybackState.PROPOSED,
                col(Payback.proposed_by) != name,
            )
            .values(
                state=PaybackState.APPROVED,
                approved_by=name,
                changed_at_ms=now_ms(session),
            )
            .execution_options(synchronize_session=False)
        )
        if (await session.exec(statement)).rowcount != 1:
            is_same = found.proposed_by == name
            if found.state == PaybackState.PROPOSED and is_same:
                raise SameOperator(f"{name} has proposed it")
            raise PaybackNotReady(payback_id, found.state)
        named = encode_id("pbk", payback_id)
        await note_act(session, Signed(name), "approve_payback", named)
        await session.refresh(found)
        return found

    approved = await db.write(work)
    _log.info("payback_approved", payback=encode_id("pbk", payback_id), operator=name)
    return approved
