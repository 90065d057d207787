"""Many callers at once for some seconds, and how often they got through."""

import asyncio
import time
from collections.abc import Awaitable, Callable

Call = Callable[[int], Awaitable[object]]
"""Is told the number of the call, so that each can have a key of its own."""


async def calls_per_second(call: Call, *, callers: int, seconds: float) -> float:
    """Each caller waits for its answer before it asks again."""
    end = time.perf_counter() + seconds
    done = 0
    numbers = iter(range(1 << 62))

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await call(next(numbers))
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return done / (time.perf_counter() - began)
