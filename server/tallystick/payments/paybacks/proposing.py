"""Proposing a payback, and a second operator's approval.

Ledger first: the credits leave their lot in the write that makes the row, so nobody
spends them while their money is on its way. Every bound is a conditional write.
"""

from dataclasses import dataclass

from sqlalchemy import insert, update
from sqlmodel import col

from tallystick.credits.debts import owed_by
from tallystick.credits.refunds import left_of
from tallystick.kernel.db import Database, WriteSession, insert_once, new_id, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.kernel.money import MicroCredits
from tallystick.operators.acts import Signed, note_act, operator_named, reason_told
from tallystick.payments.models.chain import ChainTransfer
from tallystick.payments.models.paybacks import Payback, PaybackState
from tallystick.payments.paybacks.booking import book_proposed
from tallystick.payments.paybacks.errors import (
    CustomerOwes,
    NothingToPayBack,
    PaybackNotReady,
    PaybackTooLarge,
    SameOperator,
)
from tallystick.payments.paybacks.origins import (
    Origin,
    PlainTransfer,
    counter_of,
    final_transfer,
    origin_of_topup,
    origin_of_transfer,
)
from tallystick.payments.paybacks.reading import read_payback
from tallystick.payments.rail import Rail

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Proposal:
    """Who wants what to go back, and why; all that is unused if ``credits`` is None.

    Of a top-up, or of a plain transfer that was redeemed. Raises ``UnusableWords`` for a
    name or a reason that is none.
    """

    topup_id: int | None
    operator: str
    reason: str
    credits: MicroCredits | None = None
    transfer: PlainTransfer | None = None

    def __post_init__(self) -> None:
        assert (self.topup_id is None) != (self.transfer is None)
        object.__setattr__(self, "operator", operator_named(self.operator))
        object.__setattr__(self, "reason", reason_told(self.reason))


async def propose(db: Database, rail: Rail, wanted: Proposal) -> Payback:
    """Take the credits out of their lot, and keep them for the way back.

    Raises ``UnknownTopUp``, ``TopUpNotFinal``, ``UnknownRedemption``,
    ``SeveralTransfers``, ``TransferNotFinal``, ``NothingToPayBack``,
    ``PaybackTooLarge`` or ``CustomerOwes``, and for a transfer ``RpcUnavailable``; then
    nothing was taken.
    """
    transfer = None
    if wanted.transfer is not None:
        transfer = await final_transfer(db, rail, wanted.transfer)
    payback = await db.write(lambda session: _propose(session, rail, wanted, transfer))
    _log.info(
        "payback_proposed",
        payback=encode_id("pbk", payback.id),
        operator=payback.proposed_by,
        usdc_atomic=payback.usdc,
    )
    return payback


async def _propose(
    session: WriteSession, rail: Rail, wanted: Proposal, transfer: ChainTransfer | None
) -> Payback:
    if transfer is not None:
        origin = await origin_of_transfer(session, transfer)
    else:
        assert wanted.topup_id is not None, "it is of one or the other"
        origin = await origin_of_topup(session, rail, wanted.topup_id)
    grant = origin.grant
    # The account stays locked from here on, and with it the debt.
    left = await left_of(session, origin.customer_id, grant.id)
    await require_no_debt(session, origin.customer_id)
    amount = left if wanted.credits is None else wanted.credits
    if not left:
        raise NothingToPayBack(origin.named)
    if not 0 < amount <= left:
        raise PaybackTooLarge(amount, left)
    assert grant.cost_amount is not None, "what was bought has its cost"
    usdc = amount * grant.cost_amount // grant.amount
    if not usdc:
        raise NothingToPayBack(origin.named)
    number = await _count(session, origin, grant.cost_amount, usdc)
    payback = _row(session, rail, wanted, origin, number, (amount, usdc))
    await session.exec(insert(Payback).values(**payback.model_dump()))
    await book_proposed(session, payback, grant.id)
    signed = Signed(wanted.operator, wanted.reason)
    await note_act(session, signed, "propose_payback", encode_id("pbk", payback.id))
    return payback


async def require_no_debt(session: WriteSession, customer_id: int) -> None:
    """Raises ``CustomerOwes``."""
    owed = await owed_by(session, customer_id)
    if owed:
        raise CustomerOwes(owed)


async def _count(session: WriteSession, origin: Origin, paid: int, usdc: int) -> int:
    """Count it against what was paid; which payback of the payment it is."""
    counter, is_its_own = counter_of(origin)
    empty = {"paid": paid, "usdc": 0, "last_number": 0}
    await insert_once(session, counter, origin.key | empty)
    counted = (
        update(counter)
        .where(is_its_own, col(counter.usdc) + usdc <= col(counter.paid))
        .values(usdc=counter.usdc + usdc, last_number=counter.last_number + 1)
        .returning(col(counter.last_number))
        .execution_options(synchronize_session=False)
    )
    number = (await session.exec(counted)).scalar_one_or_none()
    if number is None:
        raise NothingToPayBack(origin.named)
    return int(number)


def _row(
    session: WriteSession,
    rail: Rail,
    wanted: Proposal,
    origin: Origin,
    number: int,
    amounts: tuple[int, int],
) -> Payback:
    credits_back, usdc = amounts
    is_large = usdc > rail.paybacks.approval_above
    now = now_ms(session)
    return Payback(
        id=new_id(session),
        **origin.key,
        number=number,
        customer_id=origin.customer_id,
        chain_id=origin.paid.chain_id,
        token=bytes(origin.paid.token),
        to_address=origin.payer,
        credits=credits_back,
        usdc=usdc,
        nonce=origin.nonce(number),
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
