"""Who waits in this process is woken when something has changed."""

import asyncio
from contextlib import suppress
from weakref import WeakValueDictionary


class Change:
    """The next notification, whenever it comes."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    @property
    def has_come(self) -> bool:
        """Whether there is a reason to look."""
        return self._event.is_set()

    async def within(self, seconds: float) -> None:
        """Return once it has come, or after so many seconds."""
        with suppress(TimeoutError):
            # Not wait_for: in Python 3.11 that one forgets that it was cancelled when
            # the notification comes at the same moment, and its worker never ends.
            async with asyncio.timeout(seconds):
                await self._event.wait()


class Changes:
    """Wakes who waits in this process for something to change.

    What, says an id: a top-up's, a merchant's settlement's, or a customer's for all that
    is his. Whoever waits looks at the database when he is woken, so to wake everybody
    at each change would cost the square of how many there are.

    Take ``upcoming`` before looking at the database: what is told between the look and
    the waiting is then not missed. Only a shortcut all the same: whoever waits looks
    again anyway, since another process may have made the change.
    """

    def __init__(self) -> None:
        # For whom nobody waits there is no event.
        self._events: WeakValueDictionary[int, asyncio.Event] = WeakValueDictionary()

    def notify(self, id_: int, *more: int) -> None:
        """Wake all who wait for one of these now."""
        for one in (id_, *more):
            event = self._events.pop(one, None)
            if event is not None:
                event.set()

    def upcoming(self, id_: int) -> Change:
        """What to wait for after a look that is about to be taken."""
        event = self._events.get(id_)
        if event is None:
            event = self._events[id_] = asyncio.Event()
        return Change(event)


class Bell:
    """Wakes workers of this process, whatever there is to do; else as ``Changes``."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all who wait now."""
        self._event.set()
        self._event = asyncio.Event()

    def upcoming(self) -> Change:
        """What to wait for after a look that is about to be taken."""
        return Change(self._event)
