"""So many works at once, each by itself: a slow one holds up nobody else's."""

import asyncio
from collections.abc import Coroutine
from typing import Any

_GRACE_SECONDS = 3.0


class Crew:
    """Does works in tasks of their own, at most ``at_once``, one for each name."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._tasks: dict[int, asyncio.Task[None]] = {}

    @property
    def free(self) -> int:
        """How many works could begin now."""
        return self._at_once - len(self._tasks)

    @property
    def busy_with(self) -> frozenset[int]:
        """The names of the works that go on."""
        return frozenset(self._tasks)

    def start(self, name: int, work: Coroutine[Any, Any, None]) -> None:
        """Begin the work, which must handle its own errors."""
        task = asyncio.create_task(work)
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def one_ends(self) -> None:
        """Return once any of the works has ended; at once when there is none."""
        if self._tasks:
            await asyncio.wait(
                self._tasks.values(), return_when=asyncio.FIRST_COMPLETED
            )

    async def all_end(self) -> None:
        """Return once every work has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def disband(self, *, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Let the works end, and after the grace, in seconds, break them off."""
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
