"""A server that is told to stop finishes what it has begun, and does stop."""

import asyncio

import pytest

from tallystick.kernel.db import Database, WriteSession, query
from tallystick.workers.rounds import repeat, whole

_COUNT = "SELECT COUNT(*) AS rows FROM ledger_account"


async def test_a_round_that_has_begun_is_finished_before_the_stop(
    db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    begun, done = asyncio.Event(), []

    async def slow_transaction(session: WriteSession) -> None:
        await query(session, _COUNT)
        begun.set()
        await asyncio.sleep(0.2)
        await query(session, _COUNT)

    async def one_round() -> None:
        await db.write(slow_transaction)
        done.append(True)

    task = asyncio.create_task(repeat("slow", one_round, every_seconds=60))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]
    assert caplog.text == ""


async def test_a_round_that_hangs_cannot_keep_a_server_from_stopping() -> None:
    begun, ended = asyncio.Event(), []

    async def hang() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    task = asyncio.create_task(whole(hang(), grace_seconds=0.05))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    assert ended == [True]


async def test_a_round_that_fails_is_followed_by_the_next() -> None:
    rounds = 0
    third = asyncio.Event()

    async def fail() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            third.set()
        raise RuntimeError("this round failed")

    task = asyncio.create_task(repeat("failing", fail, every_seconds=0))
    await asyncio.wait_for(third.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
