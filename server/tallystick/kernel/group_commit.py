"""Work that queues while the last commit is under way is done in one transaction.

No timer and no fixed size: a group is what came while its predecessor was written. Who
finds nobody writing is a group of one and goes at once, so that at low load nothing is
gained and nothing is lost.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from tallystick.kernel.errors import Unavailable
from tallystick.kernel.lane import GroupRefused

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


_TRIES = 3


class TooManyWaiting(Unavailable):
    """So many wait already that one more would wait too long; nothing was written."""

    title = "Too many charges are waiting"
    next_step = "Send the same request again."
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("the server is writing as fast as it can")


class GroupCommit(Generic[Item, Outcome]):
    """Does items together: each gets its own outcome, and only once it is durable.

    ``together`` writes a group in one transaction and commits it; what it gives
    ``None`` for is left to be done alone, as is a whole group that somebody was in the
    way of (``GroupRefused``). Any other error is every item's.

    ``whose`` tells items apart that would wait for each other if they went alone. Of
    those only one goes at a time, and mostly it clears the way: the others queue again.
    """

    def __init__(
        self,
        together: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | None]]],
        *,
        whose: Callable[[Item], Hashable],
        most: int = 256,
        room: int = 4096,
    ) -> None:
        self._together = together
        self._whose = whose
        self._alone: dict[Hashable, asyncio.Future[None]] = {}
        self._most = most
        self._room = room
        self._waiting: deque[tuple[Item, asyncio.Future[Outcome | None]]] = deque()
        self._writing: asyncio.Task[None] | None = None

    @property
    def depth(self) -> int:
        """How many items wait for the next write."""
        return len(self._waiting)

    async def do(self, item: Item, alone: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """The item's outcome, by a group or by ``alone``.

        Raises what ``together`` or ``alone`` raises, and ``TooManyWaiting``.
        """
        whose = self._whose(item)
        for _ in range(_TRIES):
            outcome = await self._queue(item)
            if outcome is not None:
                return outcome
            if whose not in self._alone:
                return await self._go_alone(whose, alone)
            await asyncio.wait([self._alone[whose]])
        return await alone()

    async def _queue(self, item: Item) -> Outcome | None:
        if len(self._waiting) >= self._room:
            raise TooManyWaiting
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Outcome | None] = loop.create_future()
        self._waiting.append((item, told))
        if self._writing is None:
            self._writing = loop.create_task(self._write_all())
        return await told

    async def _go_alone(
        self, whose: Hashable, alone: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        done = self._alone[whose] = asyncio.get_running_loop().create_future()
        try:
            return await alone()
        finally:
            del self._alone[whose]
            done.set_result(None)

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await self._write_next()
        finally:
            self._writing = None

    async def _write_next(self) -> None:
        some = min(len(self._waiting), self._most)
        group = [self._waiting.popleft() for _ in range(some)]
        # Whoever has gone before his turn is not served any more.
        group = [(item, told) for item, told in group if not told.done()]
        if not group:
            return
        try:
            outcomes = await self._together([item for item, _ in group])
        except GroupRefused:
            _tell(group, [None] * len(group))
        except asyncio.CancelledError:
            for _, told in (*group, *self._waiting):
                told.cancel()
            self._waiting.clear()
            raise
        except Exception as error:  # noqa: BLE001  # it is those who wait that raise it
            for _, told in group:
                if not told.done():
                    told.set_exception(error)
        else:
            _tell(group, outcomes)
        # Who asks again at once belongs to the next group.
        await asyncio.sleep(0)


def _tell(
    group: Sequence[tuple[Item, "asyncio.Future[Outcome | None]"]],
    outcomes: Sequence[Outcome | None],
) -> None:
    for (_, told), outcome in zip(group, outcomes, strict=True):
        # Who has gone meanwhile was served all the same.
        if not told.done():
            told.set_result(outcome)
