"""Work inside a transaction that may be cancelled, though the transaction may not.

A BEGIN, COMMIT or ROLLBACK that is broken off leaves a connection with a lock that
nobody gives back. So the transaction has a task of its own, which always comes to its
end, and who cancels waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

Given = TypeVar("Given")
T = TypeVar("T")


class Stoppable(Generic[Given, T]):
    """Is called by the transaction for what is done in it.

    Work that ``breaks`` is broken off, and the transaction rolls back. Else it goes on.
    """

    def __init__(self, work: Callable[[Given], Awaitable[T]], *, breaks: bool) -> None:
        self._work = work
        self._breaks = breaks
        self._doing: asyncio.Future[T] | None = None
        self._stopped = False

    async def __call__(self, given: Given) -> T:
        if self._stopped:
            raise asyncio.CancelledError
        self._doing = asyncio.ensure_future(self._work(given))
        return await self._doing

    async def within(self, transaction: Coroutine[Any, Any, T]) -> T:
        """What the transaction gives. Cancelled, it ends before this does."""
        task = asyncio.create_task(transaction)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._stop()
            await ended(task)
            raise

    def _stop(self) -> None:
        self._stopped = True
        if self._breaks and self._doing is not None:
            self._doing.cancel()


async def ended(future: "asyncio.Future[Any]") -> None:
    """Wait for its end, however often that is cancelled."""
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            continue
