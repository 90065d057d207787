"""Settling through a facilitator: asked durably, believed never (decision 23).

A row is stored before each request, and its top-up becomes SIGNED by the edge that our
own transactions take: from then on only the chain says what became of the payment.
The same authorization may be handed over again and again, to the facilitator or to our
relayer, because the token takes it once.
"""

from functools import partial

from sqlalchemy import insert, or_, update
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.chain.logs import sender_of
from tallystick.kernel.db import Database, ReadSession, WriteSession, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.kernel.money import UsdcAtomic
from tallystick.payments.desk import Desk
from tallystick.payments.lanes import lane_is_free
from tallystick.payments.models.topups import SettleAttempt, TopUp, TopUpState
from tallystick.payments.rail import Rail
from tallystick.payments.relaying.relayer import authorization_of, settled_by_us
from tallystick.x402.settle_wire import AnswerKind, SettleAnswer, SettleRequest
from tallystick.x402.wire import PaymentTerms

_log = get_logger(__name__)
_LONGEST_MS = 60_000
_AGAIN_MS = 1_000
"""Before it is asked again after it has said no or was not there; doubled each time."""
PROVING_MS = 30_000
"""How long after a request only the settler credits, because it proves who settled."""
CLOCKS_DIFFER_SECONDS = 2
"""How much older than our request a block may be that was made after it: one of Base's
blocks. Clocks differ, and without this a machine that is a second ahead would refuse
the answer to payers whom it has just charged (decision 23)."""
_NO = (AnswerKind.FAILED, AnswerKind.UNREACHABLE)


async def attempts_for(
    session: ReadSession | WriteSession, topup_id: int
) -> list[SettleAttempt]:
    """What a facilitator was asked for the top-up, the newest last."""
    query = select(SettleAttempt).where(col(SettleAttempt.topup_id) == topup_id)
    ordered = query.order_by(col(SettleAttempt.attempt))
    return list((await session.exec(ordered)).all())


async def is_over(db: Database, topup: TopUp) -> bool:
    """Whether the facilitator has had its time, so that another way may be tried.

    Also when it was never asked. It may settle all the same: the authorization is
    good for one settlement, whoever comes first.
    """
    async with db.read() as session:
        asked = await attempts_for(session, topup.id)
        now = now_ms(session)
    # A clock that has stepped back must not make it wait for ever.
    return not asked or not 0 <= now - asked[-1].sent_at_ms < asked[-1].waits_ms


async def facilitator_settles(db: Database, rail: Rail, topup: TopUp) -> bool:
    """Whether the facilitator is to be asked next, and not a relayer of ours."""
    desk = rail.facilitator
    if desk is None or topup.authority is not None:
        return False  # what was signed for Permit2 only our relayers settle
    if not (desk.falls_back and rail.solvent_relayers):
        return True
    if desk.trouble is not None:
        return False
    async with db.read() as session:
        return not await attempts_for(session, topup.id)


async def ask(db: Database, rail: Rail, topup: TopUp) -> bool:
    """Store the request, then send it; whether this call did.

    Not when another worker has decided meanwhile, when the wallet has another
    settlement in flight, or when too much is under way already.
    """
    desk = rail.facilitator
    assert desk is not None
    assert topup.signature is not None
    if not desk.has_room:
        return False
    number = await db.write(partial(_store, rail, desk, topup))
    if number is None:
        return False
    desk.begin(_send(db, rail, desk, topup, number))
    return True


async def _store(
    rail: Rail, desk: Desk, topup: TopUp, session: WriteSession
) -> int | None:
    """The request's number, now that the payment's signature may be out."""
    statement = (
        update(TopUp)
        .where(
            col(TopUp.id) == topup.id,
            col(TopUp.state).in_((TopUpState.CLAIMED, TopUpState.WATCH)),
            or_(col(TopUp.in_flight), lane_is_free(topup)),
        )
        .values(state=TopUpState.SIGNED, reason=None, in_flight=True)
    )
    if (await session.exec(statement)).rowcount != 1:
        return None
    number = len(await attempts_for(session, topup.id)) + 1
    patience = int(desk.patience_seconds * 1000)
    await session.exec(
        insert(SettleAttempt).values(
            topup_id=topup.id,
            attempt=number,
            facilitator=desk.client.host,
            asked_at=rail.now_seconds(),
            sent_at_ms=now_ms(session),
            waits_ms=_pause(patience, number),
        )
    )
    return number


def _pause(first_ms: int, number: int) -> int:
    return int(min(first_ms * 2 ** min(number - 1, 16), max(first_ms, _LONGEST_MS)))


async def _send(
    db: Database, rail: Rail, desk: Desk, topup: TopUp, number: int
) -> None:
    try:
        answer = await desk.client.settle(request_of(rail, topup), desk.version or 2)
        if answer.kind == AnswerKind.UNREACHABLE:
            desk.failed(f"no answer ({answer.reason})")
        await db.write(partial(_keep, desk, topup.id, number, answer))
    except Exception:  # noqa: BLE001  # a lost answer is as good as none, but is told
        _log.exception("facilitator_answer_lost", topup=encode_id("top", topup.id))
        return
    _log.info(
        "facilitator_answered",
        topup=encode_id("top", topup.id),
        attempt=number,
        facilitator=desk.client.host,
        answer=answer.kind,
        status=answer.status,
        reason=answer.reason,
    )
    rail.work.notify()


def request_of(rail: Rail, topup: TopUp) -> SettleRequest:
    """What a facilitator is asked for this top-up, the same each time."""
    assert rail.facilitator is not None
    assert topup.signature is not None
    terms = PaymentTerms(
        rail.domain,
        UsdcAtomic(topup.value),
        topup.pay_to,
        max_timeout_seconds=rail.offer_seconds,
    )
    return SettleRequest(
        terms, authorization_of(topup), topup.signature, rail.facilitator.resource_url
    )


async def _keep(
    desk: Desk, topup_id: int, number: int, answer: SettleAnswer, session: WriteSession
) -> None:
    now = now_ms(session)
    kept: dict[str, object] = {
        "answered_at_ms": now,
        "answer": answer.kind,
        "status": answer.status,
        "reason": answer.reason,
        "tx_hash": answer.tx_hash,
    }
    if answer.kind in _NO:
        # A relayer need not wait; the facilitator is not to be flooded.
        pause = 0 if desk.falls_back else _pause(_AGAIN_MS, number)
        kept["waits_ms"] = pause
    await session.exec(
        update(SettleAttempt)
        .where(
            col(SettleAttempt.topup_id) == topup_id,
            col(SettleAttempt.attempt) == number,
        )
        .values(**kept)
    )
    await session.exec(
        update(TopUp).where(col(TopUp.id) == topup_id).values(next_look_at_ms=now)
    )


async def is_left_to_settler(
    session: WriteSession, topup: TopUp, seen: TransferLog
) -> bool:
    """Whether only the settler may credit it now, since it asks who settled it.

    For a while only: then the payer gets his credits whoever asks.
    """
    asked = await attempts_for(session, topup.id)
    if not asked or await settled_by_us(session, topup.id, seen.tx_hash):
        return False
    return 0 <= now_ms(session) - asked[-1].sent_at_ms < PROVING_MS


async def may_credit(
    db: Database, rail: Rail, topup: TopUp, settled: TransferLog
) -> bool:
    """Whether to credit now; proves first, if it can, that we had it settled.

    Not while the answer that may name the transaction is on its way. Raises
    ``RpcUnavailable``.
    """
    async with db.read() as session:
        asked = await attempts_for(session, topup.id)
        now = now_ms(session)
        if await settled_by_us(session, topup.id, settled.tx_hash):
            return True
    # One that was used before we asked was public then, whoever submitted it.
    latest = settled.timestamp_seconds + CLOCKS_DIFFER_SECONDS
    since = [one for one in asked if one.asked_at <= latest]
    if not since:
        _tell_older(topup, asked, settled)
        return True
    named = any(one.tx_hash == settled.tx_hash for one in asked)
    if named or await _is_by_signer(rail, settled):
        await db.write(partial(_prove, since[0], settled.tx_hash))
        return True
    last = asked[-1]
    is_awaited = last.answered_at_ms is None
    return not (is_awaited and 0 <= now - last.sent_at_ms < PROVING_MS)


def _tell_older(topup: TopUp, asked: list[SettleAttempt], settled: TransferLog) -> None:
    """Once in a while somebody's trick; each time, a clock that is ahead."""
    if asked:
        _log.warning(
            "settled_before_we_asked",
            topup=encode_id("top", topup.id),
            seconds=asked[0].asked_at - settled.timestamp_seconds,
            next_step="If this repeats, set the machine's clock (NTP).",
        )


async def _is_by_signer(rail: Rail, settled: TransferLog) -> bool:
    desk = rail.facilitator
    if desk is None or not desk.signers:
        return False
    return await sender_of(rail.chain, settled.tx_hash) in desk.signers


async def _prove(attempt: SettleAttempt, tx_hash: bytes, session: WriteSession) -> None:
    await session.exec(
        update(SettleAttempt)
        .where(
            col(SettleAttempt.topup_id) == attempt.topup_id,
            col(SettleAttempt.attempt) == attempt.attempt,
        )
        .values(proven_hash=tx_hash)
    )
