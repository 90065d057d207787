"""Sending what was signed, as often as it takes, and knowing when it is of no use.

The same bytes are the same transaction, so sending them again is always safe, whoever
owns the key. A node's answer changes no state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.chain.errors import RpcErrorAnswer
from tallystick.chain.logs import receipt
from tallystick.chain.permit_settlement import simulate_permit
from tallystick.chain.relay import Outcome, Simulation, broadcast, simulate
from tallystick.chain.rpc import Chain
from tallystick.kernel.db import Database, ReadSession, WriteSession, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.gas.solvency import pause
from tallystick.payments.models.topups import Payment, RelayedTransaction, SentKind
from tallystick.payments.permits import is_permit
from tallystick.payments.rail import Rail
from tallystick.payments.relaying.nonces import learn_nonces
from tallystick.payments.relaying.relayer import (
    authorization_of,
    deployment_of,
    is_sent_for,
    signed_by,
)
from tallystick.payments.sequences import WIDEST_HOLE
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)
FRESH_MS = 5_000
"""How long the rehearsal before signing counts; what is older is rehearsed again."""
# Too low: it was mined a moment ago, or its nonce is lost; ``own_for`` will tell.
TAKEN = (Outcome.ACCEPTED, Outcome.ALREADY_KNOWN, Outcome.NONCE_TOO_LOW)
"""A node has it, or has no use for it any more."""


class _Prospect(StrEnum):
    ALIVE = "alive"
    REVERTED = "reverted"
    FILLED = "filled"
    """We gave its nonce to a filler."""
    LOST = "lost"
    """Somebody else has used its nonce."""
    STRANDED = "stranded"
    """Too far ahead: it was signed by a count that was a lie (``nonces``)."""


@dataclass(frozen=True, slots=True)
class Own:
    """What became of all that we signed for a payment.

    ``is_dead`` means that nothing of it can be mined any more: it was mined and reverted,
    or its nonce was used by a filler of ours, or by a transaction that is none of ours (a
    restored database, a key used elsewhere). ``lost`` is the newest, if that was so.
    """

    is_dead: bool = False
    lost: RelayedTransaction | None = None


async def sent_for(
    session: ReadSession | WriteSession, payment: Payment
) -> Sequence[RelayedTransaction]:
    """All that was signed for the payment, the newest first."""
    query = (
        select(RelayedTransaction)
        .where(is_sent_for(payment))
        # Nonces of two keys cannot be compared, so time comes first.
        .order_by(
            col(RelayedTransaction.signed_at_ms).desc(),
            col(RelayedTransaction.evm_nonce).desc(),
            col(RelayedTransaction.attempt).desc(),
        )
    )
    return (await session.exec(query)).all()


async def send_again(db: Database, rail: Rail, topup: Payment) -> None:
    """Hand the newest bytes to a node once more if the chain has long been silent.

    Its answer changes no state; a lost one raises ``RpcUnavailable``. What would revert
    by now is not sent any more.
    """
    async with db.read() as session:
        stored = await sent_for(session, topup)
        now = now_ms(session)
    if not stored or not await take_turn(db, rail, stored[0]):
        return
    newest = stored[0]
    is_stale = now - newest.signed_at_ms > FRESH_MS
    if is_stale and is_settlement(newest) and await would_revert(rail, newest, topup):
        return
    await deliver(rail, newest)


def is_settlement(stored: RelayedTransaction) -> bool:
    """Whether it captures an authorization, and is no filler."""
    return stored.kind == SentKind.SETTLEMENT


async def rehearse(rail: Rail, topup: Payment, sender: bytes) -> Simulation:
    """Whether its settlement would succeed now, its payer's deployment included.

    One node says why not, too: what one refuses as used may be unused to another.
    Raises ``RpcUnavailable`` or ``RpcErrorAnswer``.
    """
    terms, signature = authorization_of(topup), signed_by(topup)
    deployment = deployment_of(topup)

    async def ask(node: Chain) -> Simulation:
        if is_permit(topup):
            return await simulate_permit(node, terms, signature, sender)
        return await simulate(node, terms, signature, sender, deployment=deployment)

    return await rail.chain.of_one_node(ask)


async def would_revert(rail: Rail, stored: RelayedTransaction, topup: Payment) -> bool:
    """Whether the settlement would cost gas for nothing; not known is no.

    Raises ``RpcUnavailable``.
    """
    if topup.signature is None:
        return False
    try:
        seen = await rehearse(rail, topup, stored.relayer)
    except RpcErrorAnswer:
        return False
    return not seen.ok


async def was_let_down(db: Database, rail: Rail, topup: Payment) -> bool:
    """Whether a contract took the signature in a rehearsal and then let it revert.

    Its rehearsals are no witness any more: it may tell them apart (A27). A payer
    without code cannot. Raises ``RpcUnavailable``.
    """
    async with db.read() as session:
        stored = await sent_for(session, topup)
    if not stored:
        return False
    if deployment_of(topup) is None and not await rail.chain.code_at(topup.payer):
        return False
    return _Prospect.REVERTED in [seen for _, seen in await _prospects(rail, stored)]


async def own_for(db: Database, rail: Rail, topup: Payment) -> Own:
    """Whether something that we signed for the payment is in a block, or may get there.

    Raises ``RpcUnavailable``.
    """
    async with db.read() as session:
        stored = await sent_for(session, topup)
    prospects = await _prospects(rail, stored)
    if _Prospect.ALIVE in [seen for _, seen in prospects]:
        return Own()
    lost = [newest for newest, seen in prospects[:1] if seen == _Prospect.LOST]
    return Own(is_dead=True, lost=lost[0] if lost else None)


async def tell_of_loss(db: Database, rail: Rail, stored: RelayedTransaction) -> None:
    """Say that somebody else has used its nonce, and learn the key's nonces anew.

    Raises ``RpcUnavailable``.
    """
    _log.error(
        "relayer_nonce_used_elsewhere",
        relayer=checksum_address(stored.relayer),
        evm_nonce=stored.evm_nonce,
    )
    for relayer in rail.relayers:
        sequence = rail.sequence(relayer)
        if relayer.address == stored.relayer and sequence.is_ours:
            async with sequence.lock:
                await learn_nonces(db, rail, relayer)


async def _prospects(
    rail: Rail, stored: Sequence[RelayedTransaction]
) -> list[tuple[RelayedTransaction, _Prospect]]:
    """What becomes of each nonce, the newest first: any attempt at it may be mined."""

    def place(one: RelayedTransaction) -> tuple[bytes, int]:
        return one.relayer, one.evm_nonce

    by_nonce = [list(some) for _, some in groupby(stored, place)]
    return [(some[0], await _prospect(rail, some)) for some in by_nonce]


async def _prospect(rail: Rail, attempts: list[RelayedTransaction]) -> _Prospect:
    one = attempts[0]
    # Asked before the receipts: a node that has mined the nonce has them.
    mined_below = await rail.chain.nonce(one.relayer, "latest")
    if one.relayer in rail.sequences:
        rail.sequences[one.relayer].note_mined(mined_below)
    if mined_below <= one.evm_nonce:
        return _Prospect.STRANDED if _is_stranded(rail, one) else _Prospect.ALIVE
    for attempt in attempts:
        mined = await receipt(rail.chain, attempt.tx_hash)
        if mined is not None and not is_settlement(attempt):
            return _Prospect.FILLED
        if mined is not None:
            return _Prospect.ALIVE if mined.succeeded else _Prospect.REVERTED
    return _Prospect.LOST


def _is_stranded(rail: Rail, one: RelayedTransaction) -> bool:
    """Whether its key, which is ours, goes on far below it."""
    sequence = rail.sequences.get(one.relayer)
    if sequence is None or not sequence.is_ours:
        return False
    return one.evm_nonce > sequence.next_nonce + WIDEST_HOLE


async def take_turn(db: Database, rail: Rail, stored: RelayedTransaction) -> bool:
    """Be the one who sends the bytes now; the next turn comes ``resend_seconds`` later."""

    async def work(session: WriteSession) -> bool:
        now = now_ms(session)
        statement = (
            update(RelayedTransaction)
            .where(
                col(RelayedTransaction.tx_hash) == stored.tx_hash,
                col(RelayedTransaction.sent_at_ms) <= now - rail.resend_seconds * 1000,
            )
            .values(sent_at_ms=now)
        )
        return (await session.exec(statement)).rowcount == 1

    return await db.write(work)


async def deliver(rail: Rail, stored: RelayedTransaction) -> Outcome:
    """Hand the bytes to a node; what it made of them.

    Raises ``RpcUnavailable`` when no answer came: they may be on their way or not.
    """
    answer = await broadcast(rail.chain, stored.raw)
    if answer.outcome in TAKEN:
        if stored.relayer in rail.sequences:
            rail.sequences[stored.relayer].note_taken(stored.evm_nonce)
        return answer.outcome
    if answer.outcome == Outcome.INSUFFICIENT_FUNDS:
        pause(rail, stored.relayer)
    _log.warning(
        "settlement_not_taken",
        topup=encode_id("top", stored.topup_id) if stored.topup_id else None,
        outcome=answer.outcome,
        relayer=checksum_address(stored.relayer),
    )
    return answer.outcome
