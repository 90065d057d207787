"""Work that queues while the last commit is under way is done in one transaction.

No timer and no fixed size: a batch is what came while its predecessor was written. Who
finds nobody writing does not wait for anybody and works alone, so that at low load
nothing is gained and nothing is lost.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum, auto
from typing import Generic, TypeVar

from sqlalchemy.exc import IntegrityError

from tallystick.kernel.errors import Unavailable

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class TooManyWaiting(Unavailable):
    """So many wait already that one more would wait too long; nothing was written."""

    title = "Too many charges are waiting"
    next_step = "Send the same request again."
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("the server is writing as fast as it can")


class _Turn(Enum):
    YOURS = auto()
    """Nobody else waits: work alone, and let the next go."""


class GroupCommit(Generic[Item, Outcome]):
    """Does items together: each gets its own outcome, and only once it is durable.

    ``together`` writes a batch in one transaction and commits it; what it gives
    ``None`` for is left to be done alone, as is the whole batch when it meets a key
    that somebody used at the same moment. Any other error is every item's.
    """

    def __init__(
        self,
        together: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome | None]]],
        *,
        most: int = 256,
        room: int = 4096,
    ) -> None:
        self._together = together
        self._most = most
        self._room = room
        self._waiting: deque[tuple[Item, asyncio.Future[Outcome | _Turn | None]]]
        self._waiting = deque()
        self._is_busy = False
        self._writing: asyncio.Task[None] | None = None

    async def do(self, item: Item, alone: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """The item's outcome, by a batch or by ``alone``.

        Raises what ``together`` or ``alone`` raises, and ``TooManyWaiting``.
        """
        if not self._is_busy:
            self._is_busy = True
            return await self._alone(alone)
        if len(self._waiting) >= self._room:
            raise TooManyWaiting
        outcome = await self._wait(item)
        if outcome is _Turn.YOURS:
            return await self._alone(alone)
        # Not plain: it finds its own way, and nobody waits for it.
        return await alone() if outcome is None else outcome

    async def _wait(self, item: Item) -> Outcome | _Turn | None:
        turn: asyncio.Future[Outcome | _Turn | None]
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((item, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            if _is_told(turn) and turn.result() is _Turn.YOURS:
                self._hand_on()
            raise

    async def _alone(self, alone: Callable[[], Awaitable[Outcome]]) -> Outcome:
        try:
            return await alone()
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        """Let those go who have queued meanwhile; with nobody there it is free again."""
        batch: list[tuple[Item, asyncio.Future[Outcome | _Turn | None]]] = []
        while self._waiting and len(batch) < self._most:
            item, turn = self._waiting.popleft()
            if not turn.cancelled():
                batch.append((item, turn))
        if not batch:
            self._is_busy = False
        elif len(batch) == 1:
            batch[0][1].set_result(_Turn.YOURS)
        else:
            self._writing = asyncio.get_running_loop().create_task(self._write(batch))

    async def _write(
        self, batch: Sequence[tuple[Item, "asyncio.Future[Outcome | _Turn | None]"]]
    ) -> None:
        turns = [turn for _, turn in batch]
        try:
            outcomes = await self._together([item for item, _ in batch])
        except IntegrityError:
            _tell(turns, [None] * len(turns))
        except asyncio.CancelledError:
            for turn in turns:
                turn.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # it is those who wait that raise it
            for turn in turns:
                if not turn.done():
                    turn.set_exception(error)
        else:
            _tell(turns, outcomes)
            # Who asks again at once belongs to the next batch.
            await asyncio.sleep(0)
        finally:
            self._hand_on()


def _is_told(turn: "asyncio.Future[Outcome | _Turn | None]") -> bool:
    return turn.done() and not turn.cancelled() and turn.exception() is None


def _tell(
    turns: "Sequence[asyncio.Future[Outcome | _Turn | None]]",
    outcomes: Sequence[Outcome | None],
) -> None:
    for turn, outcome in zip(turns, outcomes, strict=True):
        # Who has gone meanwhile was served all the same.
        if not turn.done():
            turn.set_result(outcome)
