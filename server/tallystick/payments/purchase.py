"""Buying credits: claim the payment, settle it, wait for the outcome."""

import asyncio

from tallystick.chain.rpc import Block
from tallystick.claims.claim import ClaimedMoney, Use, claim, find_claim
from tallystick.claims.models import ClaimState
from tallystick.customers.wallets import customer_of_wallet, ensure_customer_of_wallet
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.payments.errors import (
    PayerNotLinked,
    SettlementPending,
    TopUpsUnavailable,
)
from tallystick.payments.models import OPEN_STATES, PAID_STATES, TopUp
from tallystick.payments.presented import Presented
from tallystick.payments.rail import Rail
from tallystick.payments.topups import open_topup, read_topup, topup_of_claim
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.wire import PaymentPayload


async def probe(rail: Rail) -> Block:
    """The newest block, asked before a claim so that an outage claims nothing.

    Raises ``TopUpsUnavailable`` or ``RpcUnavailable`` (both 503).
    """
    if rail.obstacle is not None:
        raise TopUpsUnavailable(rail.obstacle)
    return await rail.head()


def scan_from(rail: Rail, head: Block) -> int:
    """The first block in which an authorization presented now may have been used."""
    return max(rail.start_block, head.number - rail.lookback_blocks, 0)


def require_network(rail: Rail, payload: PaymentPayload) -> None:
    """Raise ``PaymentRejected`` for a payment on another chain than ours."""
    if payload.network != rail.network:
        raise PaymentRejected(
            reasons.INVALID_NETWORK, "network is not the one that was offered"
        )


async def known_topup(
    session: ReadSession | WriteSession, money: ClaimedMoney
) -> TopUp | None:
    """The top-up that this payment became when it was presented before.

    Raises ``PaymentBoundElsewhere`` when it was presented with another request.
    """
    found = await find_claim(session, money)
    return await topup_of_claim(session, found.id) if found else None


async def require_payer(
    session: ReadSession | WriteSession, payer: bytes, caller_id: int | None
) -> None:
    """A payment credits only the payer's customer.

    Raises ``PayerNotLinked`` when the request carries somebody else's identity.
    """
    if caller_id is None:
        return
    if await customer_of_wallet(session, payer) != caller_id:
        raise PayerNotLinked


async def purchase(
    db: Database,
    rail: Rail,
    presented: Presented,
    *,
    caller_id: int | None,
    wait_ms: int,
) -> TopUp:
    """Settle the payment as a top-up and wait for it; the same for every copy.

    Raises ``SettlementPending`` (202) when the outcome takes longer than ``wait_ms``,
    ``PaymentRejected`` when nothing was taken and nothing will be, ``PayerNotLinked``,
    ``TopUpsUnavailable`` and ``RpcUnavailable`` before anything is claimed.
    """
    async with db.read() as session:
        await require_payer(session, presented.money.payer, caller_id)
    head = await probe(rail)

    async def begin(session: WriteSession) -> int:
        customer_id = await ensure_customer_of_wallet(session, presented.money.payer)
        use = Use(customer_id, "", MicroCredits(0), wait_ms=0)
        made = await claim(session, presented.money, use, state=ClaimState.SETTLING)
        if made is None:
            known = await known_topup(session, presented.money)
            assert known is not None, "a purchase's claim always has its top-up"
            return known.id
        opening = await open_topup(
            session,
            made,
            presented,
            pay_to=rail.pay_to,
            scan_from_block=scan_from(rail, head),
            may_queue=True,
        )
        assert opening is not None
        return opening.topup_id

    topup_id = await db.write(begin)
    rail.work.notify()
    return require_paid(await wait_for(db, rail, topup_id, wait_ms))


async def wait_for(db: Database, rail: Rail, topup_id: int, wait_ms: int) -> TopUp:
    """The top-up once its outcome is known, or as it is when the time is over."""
    now = asyncio.get_running_loop().time
    deadline = now() + wait_ms / 1000
    while True:
        change = rail.changes.upcoming()
        async with db.read() as session:
            topup = await read_topup(session, topup_id)
        left = deadline - now()
        if topup.state not in OPEN_STATES or left <= 0:
            return topup
        await change.within(min(left, rail.poll_seconds))


def require_paid(topup: TopUp) -> TopUp:
    """The top-up if its money has arrived.

    Raises ``SettlementPending`` while that is unknown, ``PaymentRejected`` once it is
    certain that it never will.
    """
    if topup.state in PAID_STATES:
        return topup
    if topup.state in OPEN_STATES:
        raise SettlementPending(topup.id)
    raise not_taken(topup)


def not_taken(topup: TopUp) -> PaymentRejected:
    """What a payer is told of a top-up whose money will never arrive."""
    why = f": {topup.reason}" if topup.reason else ""
    is_known = topup.reason in reasons.SPECIFICATION
    return PaymentRejected(
        # Clients know the protocol's words; ours are for people.
        topup.reason
        if topup.reason and is_known
        else reasons.INVALID_TRANSACTION_STATE,
        f"the payment was not taken, it is {topup.state}{why}",
    )
