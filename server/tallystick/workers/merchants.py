"""Every open settlement for another seller is looked at until its outcome is known."""

from functools import partial

from sqlalchemy import ColumnElement, case, literal, true, update
from sqlmodel import col, select

from tallystick.kernel.db import Database, ReadSession, WriteSession, now_ms
from tallystick.kernel.errors import Unavailable
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.kernel.tables import BigInt
from tallystick.payments.merchants.settler import step_for_merchant
from tallystick.payments.models.merchants import (
    IS_OPEN_SETTLEMENT,
    MerchantSettlement,
    SettlementState,
)
from tallystick.payments.rail import Rail
from tallystick.workers.crew import Crew
from tallystick.workers.rounds import whole

_log = get_logger(__name__)
_AT_ONCE = 16
_IDLE_SECONDS = 5.0
"""Between rounds where no merchant is served any more; some may be under way."""
_FOLLOW_MS = 30_000
_FARTHEST_MS = 60_000


async def settle_for_merchants(db: Database, rail: Rail) -> None:
    """Look at what is due, then wait for work or for the next look, for ever."""
    crew = Crew(_AT_ONCE)
    pause = rail.poll_seconds if rail.serves_merchants else _IDLE_SECONDS
    try:
        while True:
            # Taken before the look, so that work which comes during it is not missed.
            work = rail.work.upcoming()
            await _round(db, rail, crew)
            await work.within(pause)
    finally:
        await crew.disband()


async def _round(db: Database, rail: Rail, crew: Crew) -> None:
    try:
        await whole(begin_due_for_merchants(db, rail, crew))
        if not crew.free:
            await crew.one_ends()
    except Unavailable as error:
        _log.warning("merchants_paused", code=error.code, **error.for_operator)
    except Exception:  # noqa: BLE001  # a restarted database is no reason to end
        _log.exception("merchants_broke")


async def begin_due_for_merchants(db: Database, rail: Rail, crew: Crew) -> int:
    """Begin a look at every settlement that is due, as many as may be; how many."""
    async with db.read() as session:
        due = await _due(session, rail, crew)
    if due:
        pause_ms = int(rail.poll_seconds * 1000)
        for one in await db.write(partial(_take_turns, due, pause_ms)):
            crew.start(one, _look(db, rail, one))
    return len(due)


async def _due(session: ReadSession, rail: Rail, crew: Crew) -> list[int]:
    now = now_ms(session)
    query = (
        select(MerchantSettlement.id)
        .where(
            col(MerchantSettlement.chain_id) == rail.domain.chain_id,
            col(MerchantSettlement.token) == rail.domain.contract,
            IS_OPEN_SETTLEMENT,
            _is_due(now),
            _is_for_us(rail, now),
            col(MerchantSettlement.id).not_in(crew.busy_with),
        )
        .order_by(col(MerchantSettlement.next_look_at_ms))
        .limit(crew.free)
    )
    return list((await session.exec(query)).all())


def _is_due(now: int) -> ColumnElement[bool]:
    """Also when the next look is absurdly far away: then the clock has stepped back."""
    due_at = col(MerchantSettlement.next_look_at_ms)
    return (due_at <= now) | (due_at > now + _FARTHEST_MS)


def _is_for_us(rail: Rail, now: int) -> ColumnElement[bool]:
    """What waits for a signature is left to who can sign, for a while."""
    if rail.may_relay:
        return true()
    patience_ms = int(rail.lease_seconds * 1000)
    is_overdue = col(MerchantSettlement.next_look_at_ms) <= now - patience_ms
    return (col(MerchantSettlement.state) != SettlementState.CLAIMED) | is_overdue


async def _take_turns(
    due: list[int], pause_ms: int, session: WriteSession
) -> list[int]:
    """Be the one who looks at these now; in the order of their ids."""
    now = now_ms(session)
    # What is settled waits for its block to be final, which takes minutes.
    is_settled = col(MerchantSettlement.state) == SettlementState.SETTLED
    soon, later = literal(now + pause_ms, BigInt), literal(now + _FOLLOW_MS, BigInt)
    taken = []
    for settlement_id in sorted(due):
        statement = (
            update(MerchantSettlement)
            .where(col(MerchantSettlement.id) == settlement_id, _is_due(now))
            .values(next_look_at_ms=case((is_settled, later), else_=soon))
            .execution_options(synchronize_session=False)
        )
        if (await session.exec(statement)).rowcount == 1:
            taken.append(settlement_id)
    return taken


async def _look(db: Database, rail: Rail, settlement_id: int) -> None:
    named = encode_id("stl", settlement_id)
    try:
        # As long as something happens there is no reason to wait for the next look.
        while await step_for_merchant(db, rail, settlement_id):
            pass
    except Unavailable as error:
        _log.warning(
            "merchant_look_failed",
            settlement=named,
            code=error.code,
            **error.for_operator,
        )
    except Exception:  # noqa: BLE001  # whatever it is, it is logged
        # One that cannot be handled must not keep the others from settling.
        _log.exception("merchant_look_broke", settlement=named)
