"""Buying credits: claim the payment, settle it, wait for the outcome."""

import asyncio

from tallystick.chain.relay import KEY_GAS_CAP
from tallystick.chain.rpc import Block, Chain
from tallystick.chain.together import together
from tallystick.chain.token import balance_of
from tallystick.claims.claim import ClaimedMoney, Use, claim, find_claim
from tallystick.claims.models import Claim, ClaimState
from tallystick.customers.wallets import customer_of_wallet, ensure_customer_of_wallet
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.money import MicroCredits
from tallystick.payments.errors import (
    PayerNotLinked,
    PaymentEnded,
    PaymentInProgress,
    PaymentUnderReview,
    SettlementPending,
    TopUpsUnavailable,
)
from tallystick.payments.gas.budget import is_hopeless
from tallystick.payments.machine import CLOSED, CONTRADICTORY, REDEEMED, UNCLEAR
from tallystick.payments.models.topups import (
    PAID_STATES,
    PENDING_STATES,
    REFUSED_STATES,
    TopUp,
    TopUpState,
)
from tallystick.payments.observing.unclaimed import find_unclaimed
from tallystick.payments.permits import (
    allowance_missing,
    is_used,
    reason_told,
    require_allowance,
)
from tallystick.payments.presented import Presented, require_code_agrees, way_of
from tallystick.payments.rail import Rail
from tallystick.payments.topups import open_topup, read_topup, topup_of_claim
from tallystick.payments.ways import Way
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.wire import PaymentPayload

_OTHERWISE = {
    Way.EIP3009: (
        "Try again later with a new payment, or pay now by Permit2: an entry of"
        " `accepts` with `assetTransferMethod`."
    ),
    Way.PERMIT2: (
        "Try again later with a new payment, or pay now by EIP-3009: an entry of"
        " `accepts` without `assetTransferMethod`."
    ),
    Way.ERC6492: (
        "Deploy the wallet and sign again, pay by one that is deployed, or try again"
        " later."
    ),
}


async def probe(rail: Rail) -> Block:
    """The newest block, asked before a claim so that an outage claims nothing.

    Raises ``TopUpsUnavailable`` or ``RpcUnavailable`` (both 503).
    """
    if rail.obstacle is not None:
        raise TopUpsUnavailable(rail.obstacle)
    return await rail.head()


async def probe_for(db: Database, rail: Rail, presented: Presented) -> Block:
    """The same for a payment, which its payer must be able to make.

    Claims are kept for long, so wallets that hold nothing, or whose contract disowns
    what their key signed, must not make any. Raises ``PaymentRejected`` as well.
    """
    require_way(rail, presented)
    await _require_budget(db, rail, presented)
    questions = [
        rail.head(),
        _has_funds(rail, presented.money),
        require_code_agrees(rail, presented),
        require_allowance(rail, presented.money),
    ]
    head, has_funds, *_ = await together(questions, len(questions))
    if not has_funds:
        raise PaymentRejected(
            reasons.INSUFFICIENT_FUNDS, "the payer's wallet holds less than it signed"
        )
    assert isinstance(head, Block)
    return head


def require_way(rail: Rail, presented: Presented) -> None:
    """Raise ``TopUpsUnavailable`` unless somebody could settle this payment now.

    Its next step names the way that is open instead, if one is.
    """
    way = way_of(presented)
    obstacle = rail.obstacle_of(way)
    if obstacle is None:
        return
    refusal = TopUpsUnavailable(obstacle)
    if rail.obstacle is None:
        refusal.next_step = _OTHERWISE[way]
    raise refusal


async def _require_budget(db: Database, rail: Rail, presented: Presented) -> None:
    """Refuse whose settlements cost too much gas for nothing today."""
    price = rail.outlook.price
    is_relayed = rail.facilitator is None or way_of(presented) != Way.EIP3009
    if not is_relayed or price is None:
        return
    wei = KEY_GAS_CAP * price.max_fee_per_gas
    async with db.read() as session:
        is_over = await is_hopeless(session, rail, presented.money.payer, wei)
    if is_over:
        raise PaymentRejected(
            reasons.INVALID_TRANSACTION_STATE,
            "too many payments of this wallet came to nothing today; its credits can be"
            " spent, and from midnight UTC on it can pay again",
        )


async def _has_funds(rail: Rail, money: ClaimedMoney) -> bool:
    async def ask(node: Chain) -> bool:
        if await balance_of(node, money.payer) >= money.value:
            return True
        # Gone because somebody submitted this very payment: then the money is ours. To
        # another node, that lags, it may still be unused.
        return await is_used(node, money)

    return await rail.chain.of_one_node(ask)


def scan_from(rail: Rail, head: Block) -> int:
    """The first block in which an authorization presented now may have been used."""
    return max(rail.start_block or 0, head.number - rail.lookback_blocks, 0)


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


async def open_purchase(
    session: WriteSession, rail: Rail, presented: Presented, head: Block
) -> tuple[Claim, int]:
    """Claim the payment and open its top-up, which waits for its wallet's turn.

    Raises ``PaymentInProgress`` when a copy of it came first, and
    ``PaymentIdentifierReused`` when another payment of the payer's has its name.
    """
    customer_id = await ensure_customer_of_wallet(session, presented.money.payer)
    use = Use(customer_id, "", MicroCredits(0), 0, presented.identifier)
    made = await claim(session, presented.money, use, state=ClaimState.SETTLING)
    if made is None:
        raise PaymentInProgress("a copy of this payment came first")
    first = scan_from(rail, head)
    used = await find_unclaimed(session, rail, presented.money)
    opening = await open_topup(
        session,
        made,
        presented,
        pay_to=presented.authorization.pay_to,
        scan_from_block=first if used is None else min(first, used.block_number),
        may_queue=True,
    )
    assert opening is not None
    return made, opening.topup_id


async def wait_for(db: Database, rail: Rail, topup_id: int, wait_ms: int) -> TopUp:
    """The top-up once its outcome is known, or as it is when the time is over."""
    now = asyncio.get_running_loop().time
    deadline = now() + wait_ms / 1000
    with rail.lookout.waiting_for(topup_id):
        while True:
            change = rail.changes.upcoming(topup_id)
            async with db.read() as session:
                topup = await read_topup(session, topup_id)
            if topup.state not in PENDING_STATES or now() >= deadline:
                return topup
            await rail.lookout.until(
                db, rail.changes, change, deadline, rail.poll_seconds
            )


def require_paid(topup: TopUp) -> TopUp:
    """The top-up if its money has arrived.

    Raises ``SettlementPending`` while that is unknown, ``PaymentRejected`` once it is
    certain that it never will, ``PaymentUnderReview`` when a person must judge, and
    ``PaymentEnded`` once he has, or its money was redeemed.
    """
    if topup.state in PAID_STATES:
        return topup
    raise unpaid(topup)


def unpaid(topup: TopUp) -> TallystickError:
    """Why a top-up has brought no credits.

    A 402 would have its payer sign once more, so there is none before it is certain
    that nothing of this payment arrives.
    """
    if topup.reason in (CLOSED, REDEEMED) and topup.state == TopUpState.CANCELED:
        return PaymentEnded(topup.id, is_redeemed=topup.reason == REDEEMED)
    if topup.state in REFUSED_STATES:
        return not_taken(topup)
    if topup.state == TopUpState.QUARANTINE:
        is_redeemable = topup.reason in (CONTRADICTORY, UNCLEAR)
        return PaymentUnderReview(topup.id, is_redeemable=is_redeemable)
    return SettlementPending(topup.id)


def not_taken(topup: TopUp) -> PaymentRejected:
    """What a payer is told of a top-up whose money will never arrive."""
    reason = reason_told(topup)
    if reason == reasons.PERMIT2_ALLOWANCE:
        return allowance_missing(topup.token)
    why = f": {reason}" if reason else ""
    is_known = reason in reasons.SPECIFICATION | reasons.OF_PERMIT2
    return PaymentRejected(
        # Clients know the protocol's words; ours are for people.
        reason if reason and is_known else reasons.INVALID_TRANSACTION_STATE,
        f"the payment was not taken, it is {topup.state}{why}",
    )
