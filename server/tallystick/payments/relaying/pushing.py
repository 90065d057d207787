"""The owner of a key brings its open nonces forward, in their order (``efforts``)."""

from collections.abc import Sequence
from itertools import groupby

from sqlmodel import col, select

from tallystick.chain.logs import receipt
from tallystick.chain.relay import Outcome
from tallystick.kernel.db import Database, now_ms
from tallystick.kernel.log import get_logger
from tallystick.payments.models.merchants import MerchantSettlement
from tallystick.payments.models.topups import (
    Payment,
    RelayedTransaction,
    TopUp,
    TopUpState,
)
from tallystick.payments.rail import Rail, Relayer
from tallystick.payments.relaying.efforts import (
    Effort,
    Standing,
    effort_for,
    may_replace,
)
from tallystick.payments.relaying.nonces import learn_nonces, step_back
from tallystick.payments.relaying.replacing import (
    OpenNonce,
    close_hole,
    fill,
    raise_fees,
)
from tallystick.payments.relaying.sending import (
    FRESH_MS,
    deliver,
    is_settlement,
    take_turn,
    would_revert,
)
from tallystick.payments.sequences import WIDEST_HOLE
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)
_ALARM_MS = 60_000


async def push_keys(db: Database, rail: Rail) -> None:
    """Bring forward what is open of each key of ours. Raises ``RpcUnavailable``."""
    for relayer in rail.relayers:
        sequence = rail.sequence(relayer)
        if sequence.fence is not None:
            async with sequence.lock:
                await _push(db, rail, relayer)


async def catch_up(db: Database, rail: Rail, relayer: Relayer) -> bool:
    """Whether a node has all that was signed with the key, so that more may follow.

    What no node has taken yet is sent first, or given to a filler. Needs the sequence's
    lock; raises ``RpcUnavailable``.
    """
    sequence = rail.sequence(relayer)
    if sequence.taken < sequence.next_nonce:
        found, now = await _open_nonces(db, rail, relayer, sequence.taken)
        for nonce in range(sequence.taken, sequence.next_nonce):
            if nonce in found:
                await _advance(db, rail, found[nonce], now, is_urgent=True)
            if sequence.taken == nonce:
                return False
    return sequence.is_ours


async def make_room(rail: Rail) -> None:
    """Ask how far the keys have come that are full. Raises ``RpcUnavailable``."""
    for relayer in (*rail.solvent_relayers, *rail.solvent_deployers):
        sequence = rail.sequence(relayer)
        if sequence.is_ours and not sequence.has_room:
            sequence.note_mined(await rail.chain.nonce(relayer.address, "latest"))


async def _push(db: Database, rail: Rail, relayer: Relayer) -> None:
    sequence = rail.sequence(relayer)
    mined = await rail.chain.nonce(relayer.address, "latest")
    if not sequence.is_known or mined > sequence.next_nonce:
        await learn_nonces(db, rail, relayer)
    # What is more than we follow is not confirmed.
    mined = min(mined, sequence.next_nonce)
    found, now = await _open_nonces(db, rail, relayer, mined)
    if min(found, default=sequence.next_nonce) - mined > WIDEST_HOLE:
        await step_back(db, rail, relayer)
        return
    # A block may have been replaced, and nonces in it are open again.
    sequence.mined = mined
    sequence.note_mined(mined)
    for nonce in range(mined, sequence.next_nonce):
        if not sequence.is_ours:
            return
        if nonce in found:
            await _advance(db, rail, found[nonce], now)
        else:
            await close_hole(db, rail, relayer, nonce)


async def _open_nonces(
    db: Database, rail: Rail, relayer: Relayer, first: int
) -> tuple[dict[int, OpenNonce], int]:
    """What is stored from this nonce on, and the time."""
    query = (
        select(RelayedTransaction, TopUp, MerchantSettlement)
        .outerjoin(TopUp, col(TopUp.id) == col(RelayedTransaction.topup_id))
        .outerjoin(
            MerchantSettlement,
            col(MerchantSettlement.id)
            == col(RelayedTransaction.merchant_settlement_id),
        )
        .where(
            col(RelayedTransaction.chain_id) == rail.domain.chain_id,
            col(RelayedTransaction.relayer) == relayer.address,
            col(RelayedTransaction.evm_nonce) >= first,
        )
        .order_by(
            col(RelayedTransaction.evm_nonce), col(RelayedTransaction.attempt).desc()
        )
    )
    async with db.read() as session:
        rows: Sequence[tuple[RelayedTransaction, Payment | None]]
        rows = [(one, ours or his) for one, ours, his in await session.exec(query)]
        now = now_ms(session)
    found = {}
    for nonce, some in groupby(rows, lambda row: row[0].evm_nonce):
        attempts, payments = zip(*some, strict=True)
        found[nonce] = OpenNonce(relayer, attempts, payments[0])
    return found, now


async def _advance(
    db: Database, rail: Rail, one: OpenNonce, now: int, *, is_urgent: bool = False
) -> None:
    """Do what is to be done for it; urgently when somebody is about to sign the next."""
    standing = await _standing(rail, one, now, is_urgent=is_urgent)
    effort = effort_for(standing)
    if effort == Effort.SEND and (is_urgent or await take_turn(db, rail, one.newest)):
        outcome = await deliver(rail, one.newest)
        if outcome == Outcome.UNDERPRICED and may_replace(standing):
            effort = Effort.REPLACE
    # It would also revert, or be silent, because it was mined a moment ago.
    if effort in (Effort.REPLACE, Effort.FILL) and await _is_open(rail, one):
        again = raise_fees if effort == Effort.REPLACE else fill
        await again(db, rail, one)


async def _standing(
    rail: Rail, one: OpenNonce, now: int, *, is_urgent: bool
) -> Standing:
    newest = one.newest
    sequence = rail.sequence(one.relayer)
    is_stuck = newest.evm_nonce == sequence.mined and await _is_stuck(rail, one, now)
    return Standing(
        len(one.attempts),
        is_filler=not is_settlement(newest),
        would_revert=await _would_revert(rail, one, now),
        is_stuck=is_stuck,
        is_last=newest.evm_nonce == sequence.next_nonce - 1 and not is_urgent,
        is_due=is_urgent or now - newest.sent_at_ms >= rail.resend_seconds * 1000,
    )


async def _would_revert(rail: Rail, one: OpenNonce, now: int) -> bool:
    """Whether a rehearsal says so; the one before signing counts for a while."""
    if one.topup is None or not is_settlement(one.newest):
        return False
    is_fresh = now - one.newest.signed_at_ms <= FRESH_MS
    if is_fresh and one.topup.state == TopUpState.SIGNED:
        return False
    return await would_revert(rail, one.newest, one.topup)


async def _is_stuck(rail: Rail, one: OpenNonce, now: int) -> bool:
    """Nothing for so long, and by the time of the newest block too: it goes on."""
    patience_ms = rail.stuck_seconds * 1000
    silent_since = one.newest.signed_at_ms
    if now - silent_since < patience_ms:
        return False
    if now - one.attempts[-1].signed_at_ms > _ALARM_MS:
        _ring(rail, one)
    head = await rail.head()
    return head.timestamp_seconds * 1000 - silent_since >= patience_ms


def _ring(rail: Rail, one: OpenNonce) -> None:
    """Once for each nonce."""
    sequence, nonce = rail.sequence(one.relayer), one.newest.evm_nonce
    if sequence.told_stuck != nonce:
        sequence.told_stuck = nonce
        _log.error(
            "relayer_nonce_stuck",
            relayer=checksum_address(one.relayer.address),
            evm_nonce=nonce,
        )


async def _is_open(rail: Rail, one: OpenNonce) -> bool:
    """By the count, and by receipts: a count that is too low would cost us fees."""
    sequence = rail.sequence(one.relayer)
    mined = await rail.chain.nonce(one.relayer.address, "latest")
    sequence.note_mined(min(mined, sequence.next_nonce))
    if mined > one.newest.evm_nonce:
        return False
    for attempt in one.attempts:
        if await receipt(rail.chain, attempt.tx_hash) is not None:
            sequence.note_taken(attempt.evm_nonce)
            return False
    return True
