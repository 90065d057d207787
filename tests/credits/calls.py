"""Holds as a test asks for them."""

from collections.abc import Sequence

from tests.ledger.bookings import ALICE, give

from tallystick.credits import holds, limits
from tallystick.credits.limits import Limit, LimitTake, Taken
from tallystick.credits.models import LimitPeriod
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database
from tallystick.kernel.money import MicroCredits
from tallystick.ledger import breakage
from tallystick.ledger.posting import Posted


async def place(
    db: Database,
    amount: int,
    customer_id: int = ALICE,
    *,
    seconds: int = 60,
    limits: Sequence[LimitTake] = (),
) -> holds.PlacedHold | None:
    return await db.write(
        lambda session: holds.place(
            session,
            customer_id,
            "ai_analyst",
            MicroCredits(amount),
            lifetime_seconds=seconds,
            limits=limits,
        )
    )


async def hold(
    db: Database,
    amount: int,
    customer_id: int = ALICE,
    *,
    seconds: int = 60,
    limits: Sequence[LimitTake] = (),
) -> int:
    placed = await place(db, amount, customer_id, seconds=seconds, limits=limits)
    assert placed is not None
    return placed.id


async def capture(db: Database, hold_id: int, amount: int | None = None) -> Posted:
    some = None if amount is None else MicroCredits(amount)
    return await db.write(lambda session: holds.capture(session, hold_id, some))


async def release(db: Database, hold_id: int) -> None:
    await db.write(lambda session: holds.release(session, hold_id))


async def extend(db: Database, hold_id: int, seconds: int) -> None:
    await db.write(
        lambda session: holds.extend(session, hold_id, lifetime_seconds=seconds)
    )


async def is_open(db: Database, hold_id: int) -> bool:
    async with db.read() as session:
        return await holds.is_open(session, hold_id)


async def expire_due(
    db: Database, customer_id: int | None = None, limit: int = 500
) -> int:
    return await db.write(
        lambda session: holds.expire_due(session, customer_id=customer_id, limit=limit)
    )


async def let_lapse(
    db: Database, clock: OffsetClock, amount: int, *customer_ids: int
) -> None:
    """Everything that these customers were given lay in holds that lapse this second."""
    for customer_id in customer_ids:
        await give(db, amount, customer_id)
        await hold(db, amount, customer_id, seconds=5)
    clock.advance(5)


async def settle_due(db: Database, limit: int = 200) -> int:
    return await db.write(lambda session: breakage.settle_due(session, limit=limit))


async def set_limit(
    db: Database,
    most: int,
    period: LimitPeriod = LimitPeriod.TOTAL,
    *,
    subject: str = "key:1",
    name: str = "budget",
) -> int:
    return await db.write(
        lambda session: limits.set_limit(session, subject, name, most, period)
    )


async def take(db: Database, *takes: tuple[int, int]) -> tuple[Taken, ...]:
    """Of each limit so much, in one transaction."""
    wanted = [LimitTake(limit_id, amount) for limit_id, amount in takes]
    return await db.write(lambda session: limits.take(session, wanted))


async def give_back(db: Database, taken: Sequence[Taken]) -> None:
    await db.write(lambda session: limits.give_back(session, taken))


async def limits_of(db: Database, *subjects: str) -> list[Limit]:
    async with db.read() as session:
        return await limits.limits_of(session, subjects or ("key:1",))


async def used(db: Database, limit_id: int, subject: str = "key:1") -> int:
    (found,) = [one for one in await limits_of(db, subject) if one.id == limit_id]
    return found.used
