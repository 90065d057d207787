"""Many callers at once for some seconds: how often they got through, and how fast."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

Call = Callable[[int], Awaitable[object]]
"""Is told the number of the call, so that each can have a key of its own."""


@dataclass(frozen=True, slots=True)
class Calls:
    """``took_ms`` is how long each call waited for its answer, in milliseconds."""

    seconds: float
    took_ms: Sequence[float]

    @property
    def per_second(self) -> float:
        return len(self.took_ms) / self.seconds

    @property
    def p50_ms(self) -> float:
        return statistics.median(self.took_ms)

    @property
    def p99_ms(self) -> float:
        """The fastest answer that was not faster than 99 of a hundred."""
        return sorted(self.took_ms)[len(self.took_ms) * 99 // 100]


async def calls(call: Call, *, callers: int, seconds: float) -> Calls:
    """Each caller waits for its answer before it asks again."""
    end = time.perf_counter() + seconds
    took_ms: list[float] = []
    numbers = iter(range(1 << 62))

    async def caller() -> None:
        asked = time.perf_counter()
        while asked < end:
            await call(next(numbers))
            answered = time.perf_counter()
            took_ms.append(1000 * (answered - asked))
            asked = answered

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return Calls(time.perf_counter() - began, took_ms)
