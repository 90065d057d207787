"""The settler: every open top-up is looked at until its outcome is known."""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from sqlalchemy import ColumnElement, LargeBinary, func, literal, true, update
from sqlmodel import col, select

from tallystick.kernel.db import Database, ReadSession, WriteSession, now_ms
from tallystick.kernel.errors import Unavailable
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.payments.lanes import promote_forgotten
from tallystick.payments.models.topups import IS_PENDING, TopUp, TopUpState
from tallystick.payments.rail import Rail
from tallystick.payments.settler import step
from tallystick.workers.crew import Crew
from tallystick.workers.rounds import whole
from tallystick.x402.erc6492 import WRAPPED_SUFFIX

_log = get_logger(__name__)
_AT_ONCE = 32
_IDLE_SECONDS = 2.0
_FARTHEST_MS = 60_000
_SIGNATURE = func.coalesce(col(TopUp.signature), literal(b"", LargeBinary))
_ENDS_AT = func.length(_SIGNATURE) - len(WRAPPED_SUFFIX) + 1
_DEPLOYS = func.substr(_SIGNATURE, _ENDS_AT, type_=LargeBinary) == WRAPPED_SUFFIX
"""Of top-ups: that their payer's wallet is deployed with them (ERC-6492)."""


class _News:
    """When the chain last showed a new block.

    Without one nothing has happened to what is signed; it is looked at all the same
    from time to time, because its bytes may have to be sent again.
    """

    def __init__(self, db: Database, rail: Rail) -> None:
        self._db = db
        self._rail = rail
        self._hash = b""
        self._at_ms = 0

    async def at_ms(self) -> int:
        """Asks the chain; a silent one has no new block."""
        now = self._db.clock.now_ms()
        is_news = abs(now - self._at_ms) >= self._rail.resend_seconds * 1000
        with suppress(Unavailable):
            head = await self._rail.head()
            is_news |= head.hash != self._hash
            self._hash = head.hash
        if is_news:
            self._at_ms = now
        return self._at_ms


async def settle_for_ever(db: Database, rail: Rail, *, hold_seconds: int) -> None:
    """Look at what is due, then wait for work or for the next look."""
    crew, news = Crew(_AT_ONCE), _News(db, rail)
    try:
        while True:
            # Taken before the look, so that work which comes during it is not missed.
            work = rail.work.upcoming()
            await work.within(await _round(db, rail, crew, news, hold_seconds))
    finally:
        await crew.disband()


async def _round(
    db: Database, rail: Rail, crew: Crew, news: _News, hold_seconds: int
) -> float:
    """Begin looks; how many seconds to wait before the next round."""
    try:
        return await whole(_begin_and_wait(db, rail, crew, news, hold_seconds))
    except Unavailable as error:
        _log.warning("settler_paused", code=error.code, **error.for_operator)
    except Exception:  # noqa: BLE001  # a restarted database is no reason to end
        _log.exception("settler_broke")
    return _IDLE_SECONDS


async def _begin_and_wait(
    db: Database, rail: Rail, crew: Crew, news: _News, hold_seconds: int
) -> float:
    is_busy = await _is_busy(db, rail)
    news_at_ms = await news.at_ms() if is_busy else 0
    places = crew.free
    begun = await begin_due(
        db, rail, crew, hold_seconds=hold_seconds, news_at_ms=news_at_ms
    )
    if begun < places:
        # Of what other processes begin, nobody tells us.
        is_alone = db.is_sqlite
        return _IDLE_SECONDS if is_alone and not is_busy else rail.poll_seconds
    # There may be more, which need not wait for the slowest.
    if not crew.free:
        await crew.one_ends()
    return 0


async def begin_due(
    db: Database,
    rail: Rail,
    crew: Crew,
    *,
    hold_seconds: int,
    news_at_ms: int | None = None,
) -> int:
    """Begin a look at every top-up that is due, as many as may be; how many were due.

    What is signed is looked at once after the time of the chain's news, if that is told.
    """
    await promote_forgotten(db, rail)
    async with db.read() as session:
        due = await _due(session, rail, crew, news_at_ms)
    if due:
        for topup_id in await db.write(partial(_take_turns, due, _pause_ms(rail))):
            crew.start(topup_id, _look(db, rail, topup_id, hold_seconds))
    return len(due)


def _pause_ms(rail: Rail) -> int:
    return int(rail.poll_seconds * 1000)


def _open(rail: Rail) -> tuple[ColumnElement[bool], ...]:
    """What a look may help: all that is open, except what is queued."""
    return (
        col(TopUp.chain_id) == rail.domain.chain_id,
        col(TopUp.token) == rail.domain.contract,
        IS_PENDING,
        col(TopUp.in_flight) | (col(TopUp.state) != TopUpState.CLAIMED),
    )


def _is_due(now: int) -> ColumnElement[bool]:
    """Also when the next look is absurdly far away: then the clock has stepped back."""
    due_at = col(TopUp.next_look_at_ms)
    return (due_at <= now) | (due_at > now + _FARTHEST_MS)


def _is_for_us(rail: Rail, now: int) -> ColumnElement[bool]:
    """What waits for a signature is left to who can sign, for a while.

    Only its window and the logs could end it here, and whoever takes the turn keeps the
    key's owner from it. Each way is for whose it is: permits for a relayer, whatever a
    facilitator can, and what comes with a deployment for the deployer's key.
    """
    if rail.may_relay and rail.may_deploy:
        return true()
    patience_ms = int(rail.lease_seconds * 1000)
    is_overdue = col(TopUp.next_look_at_ms) <= now - patience_ms
    ours = (col(TopUp.state) != TopUpState.CLAIMED) | is_overdue
    if rail.may_relay:
        ours |= ~_DEPLOYS
    elif rail.facilitator is not None:
        ours |= ~_DEPLOYS & col(TopUp.authority).is_(None)
    return ours | _DEPLOYS if rail.may_deploy else ours


def _has_news(rail: Rail, news_at_ms: int | None) -> ColumnElement[bool]:
    """What waits for the chain was not looked at since the chain last moved."""
    if news_at_ms is None:
        return true()
    waits = col(TopUp.state).in_((TopUpState.SIGNED, TopUpState.WATCH))
    return ~waits | (col(TopUp.next_look_at_ms) <= news_at_ms + _pause_ms(rail))


async def _due(
    session: ReadSession, rail: Rail, crew: Crew, news_at_ms: int | None
) -> list[int]:
    now = now_ms(session)
    query = (
        select(TopUp.id)
        .where(*_open(rail), _is_due(now), _is_for_us(rail, now))
        .where(_has_news(rail, news_at_ms))
        .where(col(TopUp.id).not_in(crew.busy_with))
        .order_by(col(TopUp.next_look_at_ms))
        .limit(crew.free)
    )
    return list((await session.exec(query)).all())


async def _look(db: Database, rail: Rail, topup_id: int, hold_seconds: int) -> None:
    try:
        # As long as something happens there is no reason to wait for the next look.
        while await step(db, rail, topup_id, hold_seconds=hold_seconds):
            pass
    except Unavailable as error:
        _log.warning(
            "look_failed",
            topup=encode_id("top", topup_id),
            code=error.code,
            **error.for_operator,
        )
    except Exception:  # noqa: BLE001  # whatever it is, it is logged
        # One top-up that cannot be handled must not keep the others from settling.
        _log.exception("look_broke", topup=encode_id("top", topup_id))


async def _take_turns(
    due: Sequence[int], pause_ms: int, session: WriteSession
) -> list[int]:
    """Be the one who looks at these now; the next looks are due after a pause.

    In the order of their ids, so that two processes do not wait for each other.
    """
    now = now_ms(session)
    taken = []
    for topup_id in sorted(due):
        statement = (
            update(TopUp)
            .where(col(TopUp.id) == topup_id, _is_due(now))
            .values(next_look_at_ms=now + pause_ms)
        )
        if (await session.exec(statement)).rowcount == 1:
            taken.append(topup_id)
    return taken


async def _is_busy(db: Database, rail: Rail) -> bool:
    query = select(TopUp.id).where(*_open(rail)).limit(1)
    async with db.read() as session:
        return (await session.exec(query)).one_or_none() is not None
