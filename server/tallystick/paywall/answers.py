"""One nonce or key, one answer: kept so that a copy of the request gets it too.

Only answers that were charged are kept, at most 64 KiB, never streams.
While the first request runs, its row lives no longer than its hold: a server that died
must not keep everybody else from asking.
"""

import json
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, delete, update
from sqlmodel import col, select

from tallystick.claims.models import Claim
from tallystick.kernel.db import ReadSession, WriteSession, insert_once, new_id, now_ms
from tallystick.kernel.errors import Conflict, TallystickError
from tallystick.kernel.seal import digest16
from tallystick.ledger.errors import IdempotencyMismatch
from tallystick.ledger.plain import Table
from tallystick.ledger.plain_rows import Row
from tallystick.metering.charges import charge_behind
from tallystick.paywall.answer import Answer, charge_answer
from tallystick.paywall.models import AnswerState, StoredAnswer

KEPT_MS = 24 * 3600 * 1000
LARGEST_BODY_BYTES = 64 * 1024
_SLACK_MS = 5_000


class RequestInProgress(Conflict):
    """A copy of this request is running."""

    title = "The same request is running"
    next_step = "Ask again shortly, with the same key."
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("the first request with this key has not finished yet")


class AnswerNotKept(Conflict):
    """The request was served and charged; its answer was streamed or too large."""

    title = "This request was answered already"
    next_step = "Send the request with a new key; it will be charged again."

    def __init__(self) -> None:
        super().__init__("the answer was given once and could not be kept")


class MisplacedAnswer(TallystickError):
    """The answer that is kept under this key tells of no charge of who asks.

    Nobody writes such a row but who writes the database by hand.
    """

    title = "The kept answer is not that of this request"
    next_step = "Ask the operator: `tallystick audit` shows what is wrong."

    def __init__(self) -> None:
        super().__init__("the answer under this key tells of no charge of yours")


@dataclass(frozen=True, slots=True)
class AnswerKey:
    """Who asked with which nonce or key, and what was asked; 16 bytes each.

    ``customer_id`` is who asked: the key stands for him, but does not tell.
    ``until_ms`` is how long the answer is kept, in milliseconds since 1970. ``owner`` is
    the row of the request that answers, 0 until it has begun: who comes too late must
    not touch the row of the one who took over.
    """

    key: bytes
    fingerprint: bytes
    customer_id: int
    until_ms: int
    owner: int = 0


def idempotency_answer(
    customer_id: int, key: str, binding: str, until_ms: int
) -> AnswerKey:
    """Where the answer to a caller's Idempotency-Key is kept."""
    scope = customer_id.to_bytes(8, "big")
    name = digest16(b"idempotency", scope, key.encode())
    return AnswerKey(name, bytes.fromhex(binding), customer_id, until_ms)


def waived_answer(made: Claim) -> AnswerKey:
    """Where the answer to a waived payment is kept, until its window closes."""
    name = digest16(b"waived", made.id.to_bytes(8, "big"))
    return AnswerKey(name, made.binding, made.customer_id, made.valid_before * 1000)


async def begin(
    session: WriteSession,
    key: AnswerKey,
    *,
    lease_seconds: int,
    claim_id: int | None = None,
) -> AnswerKey | Answer:
    """Be the one who answers, and own the key; or the answer that was given already.

    With a claim the lease has no end: what became of the claim says whether the first
    request still runs (``once.py``). Raises ``IdempotencyMismatch``,
    ``RequestInProgress`` or ``AnswerNotKept``.
    """
    own = replace(key, owner=new_id(session))
    lease_ms = _lease_ms(session, lease_seconds)
    row: dict[str, object] = {
        "owner": own.owner,
        "key": key.key,
        "fingerprint": key.fingerprint,
        "state": AnswerState.RUNNING,
        "claim_id": claim_id,
        "expires_at_ms": lease_ms if claim_id is None else key.until_ms,
    }
    if await insert_once(session, StoredAnswer, row):
        return own
    if await _forget_lapsed(session, key) and await insert_once(
        session, StoredAnswer, row
    ):
        return own
    found = await given(session, key)
    if found is None:  # forgotten while we looked; the next try begins
        raise RequestInProgress
    return found


async def extend(session: WriteSession, key: AnswerKey, *, lease_seconds: int) -> None:
    """The first request is still running."""
    await session.exec(
        update(StoredAnswer)
        .where(_own(key), col(StoredAnswer.state) == AnswerState.RUNNING)
        .values(expires_at_ms=_lease_ms(session, lease_seconds))
    )


def _own(key: AnswerKey) -> ColumnElement[bool]:
    return (col(StoredAnswer.key) == key.key) & (col(StoredAnswer.owner) == key.owner)


def _lease_ms(session: WriteSession, lease_seconds: int) -> int:
    return now_ms(session) + lease_seconds * 1000 + _SLACK_MS


async def _forget_lapsed(session: WriteSession, key: AnswerKey) -> bool:
    statement = delete(StoredAnswer).where(
        col(StoredAnswer.key) == key.key,
        col(StoredAnswer.state) == AnswerState.RUNNING,
        col(StoredAnswer.expires_at_ms) <= now_ms(session),
    )
    return (await session.exec(statement)).rowcount == 1


async def given(session: ReadSession | WriteSession, key: AnswerKey) -> Answer | None:
    """The answer that was given; None when there is no trace of one.

    Raises as ``begin`` does, and ``MisplacedAnswer``.
    """
    query = select(StoredAnswer).where(col(StoredAnswer.key) == key.key)
    row = (await session.exec(query)).one_or_none()
    if row is None:
        return None
    if row.fingerprint != key.fingerprint:
        raise IdempotencyMismatch
    if row.state == AnswerState.RUNNING:
        raise RequestInProgress
    if row.state == AnswerState.CHARGED:
        charged = await charge_behind(session, key.customer_id, row.owner)
        if charged is None:
            raise MisplacedAnswer
        return charge_answer(charged)
    if row.http_status is None or row.headers is None or row.body is None:
        raise AnswerNotKept
    headers = [(name, value) for name, value in json.loads(row.headers)]
    return Answer(row.http_status, headers, row.body)


async def keep(session: WriteSession, key: AnswerKey, answer: Answer | None) -> None:
    """Keep the answer; None means that it was given and cannot be kept."""
    values = _kept(key, answer)
    await session.exec(update(StoredAnswer).where(_own(key)).values(**values))


def _kept(key: AnswerKey, answer: Answer | None) -> dict[str, object]:
    if answer is None or len(answer.body) > LARGEST_BODY_BYTES:
        return {"state": AnswerState.NOT_KEPT, "expires_at_ms": key.until_ms}
    return {
        "state": AnswerState.DONE,
        "http_status": answer.http_status,
        "headers": json.dumps(list(answer.headers)),
        "body": answer.body,
        "expires_at_ms": key.until_ms,
    }


async def keep_charge(
    session: WriteSession, key: AnswerKey, ledger_transaction_id: int
) -> None:
    """The answer is the receipt of this charge."""
    values = {
        "owner": ledger_transaction_id,
        "state": AnswerState.CHARGED,
        "expires_at_ms": key.until_ms,
    }
    await session.exec(update(StoredAnswer).where(_own(key)).values(**values))


def charged_row(key: AnswerKey, ledger_transaction_id: int) -> Row:
    """The same for a plain charge, whose key must be new."""
    expires = key.until_ms
    return (ledger_transaction_id, key.key, key.fingerprint, _TOLD, expires)


def running_row(key: AnswerKey, now: int, lease_seconds: int) -> Row:
    """As ``begin`` writes it, for a key that must be new; ``key.owner`` is a fresh id."""
    expires = now + lease_seconds * 1000 + _SLACK_MS
    return (key.owner, key.key, key.fingerprint, _RUNNING, expires)


_TOLD, _RUNNING = AnswerState.CHARGED.value, AnswerState.RUNNING.value
ANSWERS = Table(
    "stored_answer",
    (
        ("owner", "bigint"),
        ("key", "bytea"),
        ("fingerprint", "bytea"),
        ("state", "text"),
        ("expires_at_ms", "bigint"),
    ),
    once="key",
)


async def forget(session: WriteSession, key: AnswerKey) -> None:
    """Nothing was charged, so the same key may ask again."""
    await session.exec(delete(StoredAnswer).where(_own(key)))
