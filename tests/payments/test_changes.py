"""Who waits for a change is told of it, and ends when he is cancelled."""

import asyncio

import pytest

from tallystick.payments.rail import Changes


@pytest.mark.parametrize("steps", range(5))
async def test_who_is_told_and_cancelled_at_once_ends(steps: int) -> None:
    """Else a worker goes on after its server was told to stop."""
    changes = Changes()
    waits = asyncio.create_task(changes.upcoming().within(60))
    await asyncio.sleep(0.01)
    changes.notify()
    for _ in range(steps):
        await asyncio.sleep(0)
    was_over = waits.done()
    waits.cancel()
    await asyncio.wait([waits])
    assert waits.cancelled() or was_over


async def test_who_is_told_or_waits_too_long_goes_on() -> None:
    changes = Changes()
    told = asyncio.create_task(changes.upcoming().within(60))
    await asyncio.sleep(0)
    changes.notify()
    await told
    await changes.upcoming().within(0.01)
