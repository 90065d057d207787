"""Workers in other processes: what they say of themselves, for those that have none.

A process without workers holds no key and asks no facilitator. Whether a payment could
be settled it learns from the rows in which workers say, every few seconds, that they are
there and what is in their way.
"""

from functools import partial

from sqlalchemy import delete, update
from sqlmodel import col, select

from tallystick.kernel.db import Database, WriteSession, insert_once, now_ms
from tallystick.payments.models.topups import RelayerRow, WorkerRow
from tallystick.payments.rail import Rail
from tallystick.payments.ways import Way

SAID_EVERY_SECONDS = 3.0
_ABSENT_MS = 15_000
"""A worker that has said nothing for so long is gone."""
_FORGOTTEN_MS = 24 * 3600 * 1000
_COLUMNS = {
    Way.EIP3009: "obstacle",
    Way.PERMIT2: "permit2_obstacle",
    Way.ERC6492: "erc6492_obstacle",
}
NOBODY = "no worker is running: start `tallystick worker`"


async def say(db: Database, rail: Rail) -> None:
    """Say that workers run here, and what is in their way, by way of payment."""
    await db.write(partial(_say, rail))


async def _say(rail: Rail, session: WriteSession) -> None:
    now = now_ms(session)
    told: dict[str, object] = {"seen_at_ms": now}
    told |= {name: rail.obstacle_of(way) for way, name in _COLUMNS.items()}
    row = {"owner": rail.owner, "chain_id": rail.domain.chain_id, **told}
    if await insert_once(session, WorkerRow, row):
        old = col(WorkerRow.seen_at_ms) < now - _FORGOTTEN_MS
        await session.exec(delete(WorkerRow).where(old))
        return
    mine = col(WorkerRow.owner) == rail.owner
    await session.exec(update(WorkerRow).where(mine).values(**told))


async def fall_silent(db: Database, rail: Rail) -> None:
    """Say that no workers run here any more."""

    async def work(session: WriteSession) -> None:
        mine = col(WorkerRow.owner) == rail.owner
        await session.exec(delete(WorkerRow).where(mine))

    await db.write(work)


async def listen(db: Database, rail: Rail) -> None:
    """Learn in which ways some worker could settle a payment now."""
    assert rail.elsewhere is not None
    async with db.read() as session:
        now = now_ms(session)
        present = select(WorkerRow).where(
            col(WorkerRow.chain_id) == rail.domain.chain_id,
            col(WorkerRow.seen_at_ms) > now - _ABSENT_MS,
        )
        rows = await session.exec(present.order_by(col(WorkerRow.seen_at_ms).desc()))
        workers = list(rows.all())
    for way, name in _COLUMNS.items():
        told: list[str | None] = [getattr(one, name) for one in workers]
        in_the_way = told[0] if told else NOBODY
        rail.elsewhere.obstacles[way] = None if None in told else in_the_way


async def signing_addresses(db: Database, rail: Rail) -> list[bytes]:
    """The relayers that settle now, also those of other processes."""
    ours = [one.address for one in rail.relayers]
    if rail.elsewhere is None:
        return ours
    query = select(RelayerRow.address).where(
        col(RelayerRow.chain_id) == rail.domain.chain_id,
        col(RelayerRow.owner).is_not(None),
    )
    async with db.read() as session:
        rows = await session.exec(query.order_by(col(RelayerRow.address)))
        return [bytes(one) for one in rows.all()]
