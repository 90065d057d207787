"""Money that nobody has presented, credited to whoever proves that it was his.

It came by a plain transfer, or by an authorization of which these books have no claim,
or only one for another amount or address.

A transaction's hash is public, so it proves nothing (A06): the sending wallet must be
the caller's, which it became by a signature. The row in ``redemption``, or the
claim on its authorization, lets each Transfer be redeemed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, update
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.claims.models import Claim
from tallystick.credits.debts import collect_from
from tallystick.credits.grants import PaidGrant, grant_paid
from tallystick.customers.wallets import (
    customer_of_wallet,
    ensure_customer_of_wallet,
)
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import (
    Database,
    ReadSession,
    WriteSession,
    insert_once,
    now_ms,
)
from tallystick.kernel.money import USDC, Amount, MicroCredits, UsdcAtomic, format_usdc
from tallystick.ledger import chart
from tallystick.ledger.references import reference_to
from tallystick.payments.errors import (
    PayerNotLinked,
    PaymentUnderReview,
    TransferNotSafe,
    UnknownTransfer,
)
from tallystick.payments.machine import REDEEMED, UNCLEAR
from tallystick.payments.models.chain import (
    ChainTransfer,
    Presence,
    Redemption,
    nonce_keeper,
)
from tallystick.payments.models.topups import (
    PAID_STATES,
    PENDING_STATES,
    TopUp,
    TopUpState,
)
from tallystick.payments.observing.keys import redemption_key
from tallystick.payments.observing.matching import Rate
from tallystick.payments.observing.unclaimed import (
    Finder,
    as_seen,
    block_of,
    credit_unclaimed,
    is_still_booked,
)
from tallystick.payments.permits import is_redeemed
from tallystick.payments.rail import Rail
from tallystick.payments.witness import Heard, hear, require_witnessed


@dataclass(frozen=True, slots=True)
class Redeemer:
    """Who asks: a customer, or a wallet that has just signed and is nobody's yet."""

    customer_id: int | None
    stranger: bytes | None = None


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What the transaction's Transfers brought, in atomic USDC and micro-credits.

    ``replayed`` when an earlier request redeemed all of them.
    """

    customer_id: int
    usdc: UsdcAtomic
    credits: MicroCredits
    replayed: bool


async def redeem(
    db: Database, rail: Rail, rate: Rate, who: Redeemer, tx_hash: bytes
) -> Redeemed:
    """Credit what the caller's wallets have sent in a transaction and never presented.

    Raises ``UnknownTransfer`` when the books have nothing of it, ``PayerNotLinked`` when
    somebody else's wallet sent it, ``TransferNotSafe`` before its block is safe or a
    witness that is needed has seen it, and ``PaymentUnderReview`` when that contradicts.
    """
    async with db.read() as session:
        found = await _suspended(session, rail, tx_hash)
    if not found:
        raise UnknownTransfer
    async with db.read() as session:
        own = [one for one in found if await _is_own(session, who, one.sender)]
    if not own:
        raise PayerNotLinked
    heard = [await _hear(rail, one) for one in own]

    async def work(session: WriteSession) -> Redeemed:
        customer_id = who.customer_id
        if customer_id is None:
            customer_id = await ensure_customer_of_wallet(session, own[0].sender)
        finder = Finder(customer_id, rate)
        done = [
            await _redeem(session, rail, finder, *pair)
            for pair in zip(own, heard, strict=True)
        ]
        reached(CrashPoint.REDEMPTION_UNCOMMITTED)
        return Redeemed(
            customer_id,
            UsdcAtomic(sum(one.value for one in own)),
            MicroCredits(sum(credits_got for credits_got, _ in done)),
            replayed=all(replayed for _, replayed in done),
        )

    redeemed = await db.write(work)
    reached(CrashPoint.REDEEMED)
    rail.work.notify()
    return redeemed


async def _hear(rail: Rail, one: ChainTransfer) -> Heard:
    """Whoever asks too early, or for what a witness has not seen, is told here."""
    if one.block_number > rail.outlook.safe_number:
        raise TransferNotSafe
    block = await block_of(rail, one)
    if block is None:
        raise TransferNotSafe
    heard = await hear(rail, as_seen(one, block))
    require_witnessed(rail, heard)
    return heard


async def _suspended(
    session: ReadSession, rail: Rail, tx_hash: bytes
) -> Sequence[ChainTransfer]:
    query = (
        select(ChainTransfer)
        .outerjoin(
            Claim,
            (col(Claim.payer) == col(ChainTransfer.sender))
            & (col(Claim.nonce) == col(ChainTransfer.nonce))
            & (col(Claim.token) == nonce_keeper())
            & (col(Claim.chain_id) == col(ChainTransfer.chain_id)),
        )
        .outerjoin(TopUp, col(TopUp.claim_id) == col(Claim.id))
        .where(
            # To whichever address was ours at the time.
            col(ChainTransfer.chain_id) == rail.domain.chain_id,
            col(ChainTransfer.token) == rail.domain.contract,
            col(ChainTransfer.tx_hash) == tx_hash,
            # What was presented is its top-up's, unless it can never be.
            col(Claim.id).is_(None) | (col(Claim.valid_before) == 0) | _never_its(),
            # A permit's that was settled in a roundabout way, too.
            col(ChainTransfer.nonce).is_not(None)
            | col(ChainTransfer.topup_id).is_(None),
            col(ChainTransfer.presence) == Presence.BOOKED,
        )
    )
    return (await session.exec(query.order_by(col(ChainTransfer.log_index)))).all()


def _never_its() -> ColumnElement[bool]:
    """Of a presented claim: that this Transfer of its nonce is never credited to it.

    Its payer has signed another amount or another address with the same nonce, and that
    was captured; or his top-up is over for good.
    """
    return col(ChainTransfer.topup_id).is_(None) & (
        (col(Claim.value) != col(ChainTransfer.value))
        | (col(TopUp.pay_to) != col(ChainTransfer.pay_to))
        | (col(TopUp.state) == TopUpState.CANCELED)
    )


async def _is_plain(session: WriteSession, one: ChainTransfer) -> bool:
    """Whether no claim is made for it: it is nobody's authorization, or never will be."""
    if one.nonce is None or await is_redeemed(session, one.id, one.generation):
        return True
    query = (
        select(ChainTransfer.id)
        .join(
            Claim,
            (col(Claim.payer) == col(ChainTransfer.sender))
            & (col(Claim.nonce) == col(ChainTransfer.nonce))
            & (col(Claim.token) == nonce_keeper())
            & (col(Claim.chain_id) == col(ChainTransfer.chain_id)),
        )
        .outerjoin(TopUp, col(TopUp.claim_id) == col(Claim.id))
        .where(
            col(ChainTransfer.id) == one.id,
            # What the books have claimed for its payer is his top-up's until it is over.
            (col(Claim.valid_before) != 0) | (col(TopUp.state) == TopUpState.CANCELED),
            _never_its(),
        )
    )
    return (await session.exec(query)).one_or_none() is not None


async def _have_looked_at(session: WriteSession, one: ChainTransfer) -> None:
    """Let what was in quarantine for want of this Transfer's owner go on.

    What uses its nonce and is looked at just now is told, too: who would put it in
    quarantine by what he saw before finds another reason, and looks again.
    """
    is_in_quarantine = col(TopUp.state) == TopUpState.QUARANTINE
    same_nonce = (
        col(TopUp.nonce) == one.nonce,
        col(TopUp.authority).is_not_distinct_from(one.authority),
        is_in_quarantine | col(TopUp.state).in_(PENDING_STATES),
    )
    may_be = (
        col(TopUp.reason) == UNCLEAR,
        col(TopUp.value) == one.value,
        is_in_quarantine,
    )
    watched = case((is_in_quarantine, TopUpState.WATCH.value), else_=col(TopUp.state))
    await session.exec(
        update(TopUp)
        .where(
            col(TopUp.chain_id) == one.chain_id,
            col(TopUp.payer) == one.sender,
            *(may_be if one.nonce is None else same_nonce),
        )
        .values(state=watched, reason=REDEEMED, next_look_at_ms=now_ms(session))
        .execution_options(synchronize_session=False)
    )


async def _is_own(session: ReadSession, who: Redeemer, sender: bytes) -> bool:
    if who.customer_id is None:
        return who.stranger == sender
    return await customer_of_wallet(session, sender) == who.customer_id


async def _redeem(
    session: WriteSession, rail: Rail, finder: Finder, one: ChainTransfer, heard: Heard
) -> tuple[int, bool]:
    """The credits, and whether they were given before."""
    # As it was read; from here on no reorganisation takes it away in between.
    if not await is_still_booked(session, one):
        raise UnknownTransfer
    if not await _is_plain(session, one):
        return await _redeem_payment(session, rail, finder, heard)
    customer_id = finder.customer_id
    bought = finder.rate.credits_for(UsdcAtomic(one.value))
    row: dict[str, object] = {
        "chain_transfer_id": one.id,
        "generation": one.generation,
        "customer_id": customer_id,
        "credits": bought,
        "catalog_version": finder.rate.catalog_version,
        "redeemed_at_ms": now_ms(session),
    }
    if not await insert_once(session, Redemption, row):
        return await _given_before(session, customer_id, one), True
    posted = await grant_paid(
        session,
        PaidGrant(
            customer_id=customer_id,
            credits=bought,
            cost=Amount(one.value, USDC),
            paid_into=chart.suspense(rail.network, rail.domain.contract),
            idempotency_key=redemption_key(one.id, one.generation),
            reference=reference_to("redemption", one.id),
            memo=f"Transfer of {format_usdc(one.value)}",
        ),
    )
    await _have_looked_at(session, one)
    if await _was_redeemed(session, one):
        await collect_from(session, customer_id, [posted.ledger_transaction_id])
    return bought, False


async def _redeem_payment(
    session: WriteSession, rail: Rail, finder: Finder, heard: Heard
) -> tuple[int, bool]:
    """The same for an authorization's money, which becomes a top-up like any other."""
    topup = await credit_unclaimed(session, rail, finder, heard)
    is_new = topup is not None
    if topup is None:
        topup = await _found_before(session, rail, heard.seen)
        if topup.customer_id != finder.customer_id:
            raise PayerNotLinked
    if topup.state in PAID_STATES:
        return topup.credits, not is_new
    if topup.state == TopUpState.QUARANTINE:
        raise PaymentUnderReview(topup.id)
    raise TransferNotSafe


async def _found_before(session: WriteSession, rail: Rail, seen: TransferLog) -> TopUp:
    """Raises ``UnknownTransfer`` for what has been presented by now."""
    query = (
        select(TopUp)
        .join(Claim, col(Claim.id) == col(TopUp.claim_id))
        .where(
            col(Claim.chain_id) == rail.domain.chain_id,
            col(Claim.token) == (seen.authority or rail.domain.contract),
            col(Claim.payer) == seen.payer,
            col(Claim.nonce) == seen.nonce,
            col(Claim.valid_before) == 0,
        )
    )
    found = (await session.exec(query)).one_or_none()
    if found is None:
        raise UnknownTransfer
    return found


async def _was_redeemed(session: WriteSession, one: ChainTransfer) -> bool:
    """Whether it was redeemed before its block was replaced, here or in another."""
    before = (
        select(Redemption.credits)
        .join(
            ChainTransfer,
            col(ChainTransfer.id) == col(Redemption.chain_transfer_id),
        )
        .where(
            col(ChainTransfer.tx_hash) == one.tx_hash,
            col(ChainTransfer.sender) == one.sender,
            (col(ChainTransfer.presence) == Presence.GONE)
            | (col(Redemption.generation) < col(ChainTransfer.generation)),
        )
    )
    return (await session.exec(before.limit(1))).one_or_none() is not None


async def _given_before(
    session: WriteSession, customer_id: int, one: ChainTransfer
) -> int:
    query = select(Redemption.customer_id, Redemption.credits).where(
        col(Redemption.chain_transfer_id) == one.id,
        col(Redemption.generation) == one.generation,
    )
    owner, credits_got = (await session.exec(query)).one()
    if owner != customer_id:
        raise PayerNotLinked
    return credits_got
