"""The one routine that turns money on the chain into credits.

Whoever saw the Transfer first, the settler or the observer, and however often: the
row in ``chain_transfer`` and the grant's key let it happen once (A07).
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, update
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.claims.models import Claim
from tallystick.credits.debts import collect_from
from tallystick.credits.grants import PaidGrant, grant_paid, grant_promotional
from tallystick.credits.holds import place
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import WriteSession, insert_once, new_id, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.kernel.money import USDC, Amount, MicroCredits, format_usdc
from tallystick.ledger import chart
from tallystick.ledger.balances import customer_balance
from tallystick.ledger.journal import post
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer
from tallystick.ledger.references import reference_to
from tallystick.payments.exposure import BeyondCap, Caps, expose
from tallystick.payments.lanes import promote_queued
from tallystick.payments.machine import CREDITABLE, Act, Decision, heed
from tallystick.payments.models.chain import ChainTransfer, Presence
from tallystick.payments.models.topups import REFUSED_STATES, TopUp, TopUpState
from tallystick.payments.observing.dust_rows import leave_dust
from tallystick.payments.observing.keys import grant_keys, suspense_key
from tallystick.payments.observing.retelling import (
    Contested,
    correct_unowned,
    put_right,
    second_voice,
)
from tallystick.payments.permits import is_redeemed
from tallystick.payments.rail import Rail
from tallystick.payments.relaying.relayer import settled_by_us
from tallystick.payments.witness import Heard

_log = get_logger(__name__)
WAITS = "waits_for_a_safe_block"
"""Why a top-up is not credited whose Transfer is there: the caps do not allow it yet."""
_TOLD = ("tx_hash", "sender", "pay_to", "value", "nonce", "authority")
"""What a node tells of a log besides its place."""


class _NotHere(Exception):
    """The Transfer cannot be taken for the top-up; nothing of the attempt may stay."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which books a Transfer belongs to, and what may be credited before it is safe.

    ``safe_number`` is the newest block that is known to be safe, ``exposure_cap`` what
    all together may have before theirs are, as it was seconds ago. ``witnessed_above``
    is from which amount on a witness must agree, None without one.
    """

    network: str
    chain_id: int
    token: bytes
    caps: Caps
    exposure_cap: int | None
    safe_number: int
    witnessed_above: int | None

    def is_large(self, seen: TransferLog) -> bool:
        """Whether no Transfer like this is credited unless the witness agrees."""
        return self.witnessed_above is not None and seen.amount >= self.witnessed_above


def place_of(rail: Rail) -> Place:
    """The rail's books, as the chain stands now."""
    return Place(
        rail.network,
        rail.domain.chain_id,
        rail.domain.contract,
        rail.caps,
        rail.outlook.exposure_cap,
        rail.outlook.safe_number,
        None if rail.witness is None else rail.witness.above,
    )


async def credit(
    session: WriteSession,
    place_: Place,
    topup: TopUp,
    heard: Heard,
    *,
    hold_seconds: int,
) -> bool:
    """Grant a top-up's credits for the Transfer that was seen; whether this call did.

    The claim's own charge is held in the same transaction, so that no other call can
    take what its payment has just bought. Not beyond the caps before its block is safe,
    and not before the witness agrees if it is large: then it waits, and its money may
    be in suspense meanwhile.
    """
    seen = heard.seen
    if place_.is_large(seen) and not await _is_witnessed(session, topup, heard):
        return False
    taken = await _admit(session, place_, topup, heard)
    if taken is None:
        return False
    granted = await _grant(session, topup, seen, taken.lies_on)
    if topup.generation > 1 or taken.was_retold:
        await collect_from(session, topup.customer_id, granted)
    if await settled_by_us(session, topup.id, seen.tx_hash):
        await _hold_for_claim(session, topup, hold_seconds)
    funds = await customer_balance(session, topup.customer_id)
    await session.exec(
        update(TopUp)
        .where(col(TopUp.id) == topup.id)
        .values(balance_after=funds.posted)
    )
    reached(CrashPoint.CREDIT_UNCOMMITTED)
    return True


async def put_in_suspense(
    session: WriteSession, place_: Place, seen: TransferLog
) -> bool:
    """Book money that has no owner yet; whether this call did."""
    await correct_unowned(session, place_.chain_id, seen)
    generation = await _record(session, place_, seen, topup_id=None)
    if generation is None:
        return False
    transfer = Transfer(
        chart.chain_assets(place_.network, place_.token),
        chart.suspense(place_.network, place_.token),
        Amount(seen.amount, USDC),
    )
    place = (
        col(ChainTransfer.chain_id) == place_.chain_id,
        col(ChainTransfer.block_hash) == seen.block_hash,
        col(ChainTransfer.log_index) == seen.log_index,
    )
    row_id = (await session.exec(select(ChainTransfer.id).where(*place))).one()
    key = suspense_key(row_id, generation)
    reference = f"transfer:0x{seen.tx_hash.hex()}:{seen.log_index}"
    await post(
        session,
        Posting(
            TransactionKind.SUSPENSE,
            key,
            [transfer],
            reference,
            occurred_at_ms=seen.timestamp_seconds * 1000,
        ),
    )
    reached(CrashPoint.SUSPENDED_UNCOMMITTED)
    return True


@dataclass(frozen=True, slots=True)
class _Taken:
    """A Transfer that is the top-up's: its account, and if it was told otherwise."""

    lies_on: chart.AccountName
    was_retold: bool = False


async def _take(
    session: WriteSession, place_: Place, topup: TopUp, heard: Heard
) -> _Taken:
    """Take the Transfer for the top-up.

    Raises ``_NotHere`` when another has it, or its block is being replaced, and
    ``Contested`` when another has it by what a node told before.
    """
    seen, topup_id = heard.seen, topup.id
    was_retold = await put_right(session, place_.chain_id, topup, heard)
    if await _record(session, place_, seen, topup_id=topup_id) is not None:
        books = (place_.network, place_.chain_id, place_.token)
        if not was_retold:
            await leave_dust(session, *books, seen)
        return _Taken(chart.chain_assets(place_.network, place_.token), was_retold)
    statement = (
        update(ChainTransfer)
        .where(
            col(ChainTransfer.chain_id) == place_.chain_id,
            col(ChainTransfer.block_hash) == seen.block_hash,
            col(ChainTransfer.log_index) == seen.log_index,
            col(ChainTransfer.topup_id).is_(None),
            col(ChainTransfer.presence) == Presence.BOOKED,
        )
        .values(topup_id=topup_id)
        .returning(col(ChainTransfer.id), col(ChainTransfer.generation))
        .execution_options(synchronize_session=False)
    )
    taken = (await session.exec(statement)).one_or_none()
    # Asked once the row is ours: who redeems it takes the row first, too.
    if taken is None or await is_redeemed(session, *taken):
        raise _NotHere
    return _Taken(chart.suspense(place_.network, place_.token))


async def _record(
    session: WriteSession, place_: Place, seen: TransferLog, *, topup_id: int | None
) -> int | None:
    """How often it is booked by now, with this time; None when it is booked already."""
    row: dict[str, object] = {
        "id": new_id(session),
        "chain_id": place_.chain_id,
        "token": place_.token,
        "block_number": seen.block_number,
        "block_hash": seen.block_hash,
        "tx_hash": seen.tx_hash,
        "log_index": seen.log_index,
        "sender": seen.payer,
        "pay_to": seen.pay_to,
        "value": seen.amount,
        "nonce": seen.nonce,
        "topup_id": topup_id,
        "seen_at_ms": now_ms(session),
        "presence": Presence.BOOKED,
        "generation": 1,
        "authority": seen.authority,
    }
    if await insert_once(session, ChainTransfer, row):
        return 1
    statement = (
        update(ChainTransfer)
        .where(
            col(ChainTransfer.chain_id) == place_.chain_id,
            col(ChainTransfer.block_hash) == seen.block_hash,
            col(ChainTransfer.log_index) == seen.log_index,
            col(ChainTransfer.presence) == Presence.GONE,
        )
        .values(
            presence=Presence.BOOKED,
            topup_id=topup_id,
            generation=ChainTransfer.generation + 1,
            # As it is told now: before, a node may have told it otherwise.
            **{one: row[one] for one in _TOLD},
        )
        .returning(col(ChainTransfer.generation))
        .execution_options(synchronize_session=False)
    )
    # The chain went back to a block that it had left.
    return (await session.exec(statement)).scalar_one_or_none()


async def _admit(
    session: WriteSession, place_: Place, topup: TopUp, heard: Heard
) -> _Taken | None:
    """Its Transfer, now that it is the top-up's; None if it may not be, yet."""
    seen = heard.seen
    is_safe = seen.block_number <= place_.safe_number
    topup_id, chain_id, payer = topup.id, topup.chain_id, topup.payer
    try:
        async with session.begin_nested():
            if not await _anchor(session, topup, seen):
                return None
            if not is_safe:
                total = place_.exposure_cap
                await expose(session, topup, place_.caps, total)
            return await _take(session, place_, topup, heard)
    except _NotHere:
        _log.error("transfer_not_to_be_taken", topup=encode_id("top", topup_id))
    except Contested:
        await _heed(
            session,
            topup_id,
            second_voice(heard, has_witness=place_.witnessed_above is not None),
        )
        await promote_queued(session, chain_id, payer)
    except BeyondCap:
        await _let_wait(session, topup_id, WAITS)
        await promote_queued(session, chain_id, payer)
    return None


async def _is_witnessed(session: WriteSession, topup: TopUp, heard: Heard) -> bool:
    topup_id, chain_id, payer = topup.id, topup.chain_id, topup.payer
    decision = heed(heard.testimony)
    if decision.act == Act.CREDIT:
        return True
    await _heed(session, topup_id, decision)
    await promote_queued(session, chain_id, payer)
    return False


async def _heed(session: WriteSession, topup_id: int, decision: Decision) -> None:
    if decision.act == Act.WAIT:
        await _let_wait(session, topup_id, decision.reason)
    else:
        quarantined = await session.exec(
            update(TopUp)
            .where(*_is_creditable(topup_id))
            .values(state=decision.state, reason=decision.reason, in_flight=False)
            .execution_options(synchronize_session=False)
        )
        if quarantined.rowcount:
            _log.error("topup_quarantined", topup=encode_id("top", topup_id))


async def _let_wait(session: WriteSession, topup_id: int, reason: str | None) -> None:
    # Its money is here, so it is refused no more; and it keeps nobody waiting, also not
    # as the next in its wallet's queue.
    watched = col(TopUp.state).in_((*REFUSED_STATES, TopUpState.CLAIMED))
    state = case((watched, TopUpState.WATCH.value), else_=col(TopUp.state))
    await session.exec(
        update(TopUp)
        .where(*_is_creditable(topup_id))
        .values(reason=reason, in_flight=False, state=state)
        .execution_options(synchronize_session=False)
    )


def _is_creditable(topup_id: int) -> tuple[ColumnElement[bool], ...]:
    return (col(TopUp.id) == topup_id, col(TopUp.state).in_(CREDITABLE))


async def _anchor(session: WriteSession, topup: TopUp, seen: TransferLog) -> bool:
    statement = (
        update(TopUp)
        .where(
            col(TopUp.id) == topup.id,
            col(TopUp.state).in_(CREDITABLE),
            # Another generation's grant has another key.
            col(TopUp.generation) == topup.generation,
        )
        .values(
            state=TopUpState.CREDITED,
            in_flight=False,
            reason=None,
            tx_hash=seen.tx_hash,
            block_number=seen.block_number,
            block_hash=seen.block_hash,
            log_index=seen.log_index,
        )
    )
    return (await session.exec(statement)).rowcount == 1


async def _grant(
    session: WriteSession,
    topup: TopUp,
    seen: TransferLog,
    paid_into: chart.AccountName,
) -> list[int]:
    """The transactions that grant its credits."""
    key, bonus_key = grant_keys(topup)
    reference = reference_to("topup", topup.id)
    posted = await grant_paid(
        session,
        PaidGrant(
            customer_id=topup.customer_id,
            credits=MicroCredits(topup.credits),
            cost=Amount(seen.amount, USDC),
            paid_into=paid_into,
            idempotency_key=key,
            reference=reference,
            memo=f"Top-up of {format_usdc(seen.amount)}",
            occurred_at_ms=seen.timestamp_seconds * 1000,
        ),
    )
    granted = [posted.ledger_transaction_id]
    if topup.bonus:
        posted = await grant_promotional(
            session,
            topup.customer_id,
            MicroCredits(topup.bonus),
            idempotency_key=bonus_key,
            reference=reference,
            memo=f"Bonus of {topup.purpose}",
        )
        granted.append(posted.ledger_transaction_id)
    return granted


async def _hold_for_claim(
    session: WriteSession, topup: TopUp, hold_seconds: int
) -> None:
    query = select(Claim).where(col(Claim.id) == topup.claim_id)
    claim = (await session.exec(query)).one()
    is_awaited = claim.waiting_until_ms > now_ms(session)
    if not claim.charge or not is_awaited or claim.hold_id is not None:
        return  # nobody waits for an answer, so nothing must be kept for one
    hold = await place(
        session,
        claim.customer_id,
        claim.feature,
        MicroCredits(claim.charge),
        lifetime_seconds=hold_seconds,
    )
    if hold is not None:
        await session.exec(
            update(Claim).where(col(Claim.id) == claim.id).values(hold_id=hold.id)
        )
