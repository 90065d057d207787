"""An Idempotency-Key is one request, however its copies are paid.

A client that signs anew for every try brings another payment each time, so the key's
row names the claim that the first try made. What became of that decides:

    its settlement is under way ──▶ 202; the new payment is not touched
    it is being served          ──▶ 409 until there is an answer
    it came to nothing          ──▶ the new try takes over
"""

from dataclasses import replace

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.claims.claim import abandon, read_claim
from tallystick.claims.models import ClaimState
from tallystick.credits import holds
from tallystick.kernel.db import ReadSession, WriteSession, insert_once, new_id
from tallystick.kernel.errors import TallystickError
from tallystick.ledger.errors import IdempotencyMismatch
from tallystick.payments.models.topups import PAID_STATES, REFUSED_STATES, TopUp
from tallystick.payments.purchase import unpaid
from tallystick.payments.topups import topup_of_claim
from tallystick.paywall import answers
from tallystick.paywall.answer import Answer
from tallystick.paywall.answers import AnswerKey, RequestInProgress
from tallystick.paywall.facts import Facts
from tallystick.paywall.gate import Gate
from tallystick.paywall.models import AnswerState, StoredAnswer


def answer_key(gate: Gate, customer_id: int, name: str, binding: str) -> AnswerKey:
    """Where the answer to a customer's Idempotency-Key is kept, for a day."""
    until_ms = gate.db.clock.now_ms() + answers.KEPT_MS
    return answers.idempotency_answer(customer_id, name, binding, until_ms)


def key_of(gate: Gate, facts: Facts, customer_id: int | None) -> AnswerKey | None:
    """The same for a call; None without a key, or without anybody who could have one."""
    if facts.idempotency_key is None or customer_id is None:
        return None
    return answer_key(gate, customer_id, facts.idempotency_key, facts.binding)


async def answered(session: ReadSession, key: AnswerKey) -> Answer | None:
    """The answer that was given under this key; None when none is there yet.

    Raises ``AnswerNotKept``.
    """
    try:
        return await answers.given(session, key)
    except (RequestInProgress, IdempotencyMismatch):
        return None  # unless the first try came to nothing: ``begin_once`` finds out


async def begin_once(
    session: WriteSession,
    key: AnswerKey,
    *,
    lease_seconds: int,
    claim_id: int | None = None,
) -> AnswerKey | Answer:
    """Own the key, or the answer that was given under it.

    ``claim_id`` is that of a payment to be settled. Raises as ``answers.begin``, and
    ``SettlementPending`` while the payment of an earlier try is under way.
    """
    try:
        return await answers.begin(
            session, key, lease_seconds=lease_seconds, claim_id=claim_id
        )
    except (RequestInProgress, IdempotencyMismatch) as refusal:
        first = await _running(session, key)
        if first is None or first.claim_id is None:
            raise
        if first.claim_id == claim_id:  # ours, begun before this process took over
            return replace(key, owner=first.owner)
        if not await _is_over(session, first.claim_id):
            raise await _why_not(session, first.claim_id, refusal) from None
        await answers.forget(session, replace(key, owner=first.owner))
    return await answers.begin(
        session, key, lease_seconds=lease_seconds, claim_id=claim_id
    )


async def _running(session: WriteSession, key: AnswerKey) -> StoredAnswer | None:
    query = select(StoredAnswer).where(
        col(StoredAnswer.key) == key.key,
        col(StoredAnswer.state) == AnswerState.RUNNING,
    )
    return (await session.exec(query)).one_or_none()


async def _is_over(session: WriteSession, claim_id: int) -> bool:
    """Whether the try that made this claim ended without an answer."""
    claim = await read_claim(session, claim_id)
    if claim is None:
        return True
    if claim.state == ClaimState.CLAIMED:
        return await abandon(session, claim_id)
    if claim.hold_id is not None:
        return not await holds.is_open(session, claim.hold_id)
    return await _pending(session, claim_id) is None


async def _pending(session: WriteSession, claim_id: int) -> TopUp | None:
    topup = await topup_of_claim(session, claim_id)
    is_decided = topup is None or topup.state in (*PAID_STATES, *REFUSED_STATES)
    return None if is_decided else topup


async def _why_not(
    session: WriteSession, claim_id: int, refusal: TallystickError
) -> TallystickError:
    pending = await _pending(session, claim_id)
    if pending is None or isinstance(refusal, IdempotencyMismatch):
        return refusal
    return unpaid(pending)


async def begin_purchase(
    session: WriteSession, key: AnswerKey, claim_id: int
) -> TopUp | None:
    """Own the key for the top-up of this claim; or the top-up that it stands for.

    A key whose payment was not taken is free again. Raises ``IdempotencyMismatch``.
    """
    row: dict[str, object] = {
        "owner": new_id(session),
        "key": key.key,
        "fingerprint": key.fingerprint,
        "state": AnswerState.TOPUP,
        "claim_id": claim_id,
        "expires_at_ms": key.until_ms,
    }
    if await insert_once(session, StoredAnswer, row):
        return None
    first = await _purchase(session, key)
    if first is None:
        raise RequestInProgress
    topup = await _topup_of(session, first, key)
    if topup is None and not await _pass_on(session, first, row):
        raise RequestInProgress
    return topup


async def purchased(session: ReadSession, key: AnswerKey) -> TopUp | None:
    """The top-up behind the key; None when there is none, or it was not taken.

    Raises ``IdempotencyMismatch``.
    """
    first = await _purchase(session, key)
    return await _topup_of(session, first, key) if first is not None else None


async def _purchase(
    session: ReadSession | WriteSession, key: AnswerKey
) -> StoredAnswer | None:
    query = select(StoredAnswer).where(col(StoredAnswer.key) == key.key)
    return (await session.exec(query)).one_or_none()


async def _topup_of(
    session: ReadSession | WriteSession, first: StoredAnswer, key: AnswerKey
) -> TopUp | None:
    is_purchase = first.state == AnswerState.TOPUP and first.claim_id is not None
    topup = await topup_of_claim(session, first.claim_id or 0) if is_purchase else None
    if topup is not None and topup.state in REFUSED_STATES:
        return None
    if topup is None or first.fingerprint != key.fingerprint:
        raise IdempotencyMismatch
    return topup


async def _pass_on(
    session: WriteSession, first: StoredAnswer, row: dict[str, object]
) -> bool:
    """Give the key of a payment that was not taken to the claim of another."""
    statement = (
        update(StoredAnswer)
        .where(
            col(StoredAnswer.owner) == first.owner,
            col(StoredAnswer.claim_id) == first.claim_id,
        )
        .values({name: row[name] for name in ("claim_id", "fingerprint")})
        .execution_options(synchronize_session=False)
    )
    return (await session.exec(statement)).rowcount == 1
