"""Who waits for a change is told of it, and ends when he is cancelled."""

import asyncio

import pytest

from tallystick.payments.changes import Bell, Change, Changes


@pytest.mark.parametrize("steps", range(5))
async def test_who_is_told_and_cancelled_at_once_ends(steps: int) -> None:
    """Else a worker goes on after its server was told to stop."""
    changes = Changes()
    waits = asyncio.create_task(changes.upcoming(1).within(60))
    await asyncio.sleep(0.01)
    changes.notify(1)
    for _ in range(steps):
        await asyncio.sleep(0)
    was_over = waits.done()
    waits.cancel()
    await asyncio.wait([waits])
    assert waits.cancelled() or was_over


async def test_who_is_told_or_waits_too_long_goes_on() -> None:
    changes = Changes()
    told = asyncio.create_task(changes.upcoming(1).within(60))
    await asyncio.sleep(0)
    changes.notify(1)
    await told
    await changes.upcoming(1).within(0.01)


async def test_only_who_waits_for_what_changed_is_woken() -> None:
    """Else each change would cost a look of everybody who waits."""
    changes = Changes()
    waiting = {
        one: asyncio.create_task(changes.upcoming(one).within(60)) for one in range(4)
    }
    await asyncio.sleep(0)
    changes.notify(1, 3)
    await asyncio.wait([waiting[1], waiting[3]])
    assert [one for one, task in waiting.items() if task.done()] == [1, 3]
    for task in waiting.values():
        task.cancel()


async def test_all_who_wait_for_one_thing_are_woken() -> None:
    changes = Changes()
    several = [asyncio.create_task(changes.upcoming(7).within(60)) for _ in range(3)]
    await asyncio.sleep(0)
    changes.notify(7)
    await asyncio.gather(*several)


async def test_a_change_between_a_look_and_the_waiting_is_not_missed() -> None:
    changes, bell = Changes(), Bell()
    upcoming: list[Change] = [changes.upcoming(7), bell.upcoming()]
    changes.notify(7)
    bell.notify()
    async with asyncio.timeout(5):
        for one in upcoming:
            await one.within(60)


async def test_a_change_that_nobody_waits_for_wakes_nobody_later() -> None:
    changes = Changes()
    changes.notify(7)
    upcoming = changes.upcoming(7)
    waits = asyncio.create_task(upcoming.within(60))
    await asyncio.sleep(0.01)
    assert not waits.done()
    waits.cancel()
