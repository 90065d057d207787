"""What this process knows of its keys' nonces. Nothing of it is a record."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MOST_IN_FLIGHT = 16
"""Nonces of a key that are signed and not mined: nodes drop what is too far ahead."""
WIDEST_HOLE = MOST_IN_FLIGHT
"""Nonces without a transaction of ours that are filled. What lies behind more of them
was signed by a count that was a lie, and is left alone (``counts``)."""


@dataclass(slots=True)
class Sequence:
    """The nonces of one key, as long as this process owns it.

    ``fence`` is that of our lease, None without one. ``is_known`` means that the
    numbers were compared with the chain since then: ``next_nonce`` is the next to sign,
    those below ``mined`` are in blocks, and those below ``taken`` were with a node.
    Whoever signs with the key holds ``lock``, so that they are sent in order.
    """

    fence: int | None = None
    is_known: bool = False
    was_asked_for: bool = False
    next_nonce: int = 0
    mined: int = 0
    taken: int = 0
    told_stuck: int = -1
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: int = 0

    @property
    def is_ours(self) -> bool:
        """Whether we may sign with the key, as far as we know: the database decides."""
        return self.fence is not None and self.is_known

    @property
    def in_flight(self) -> int:
        """Signed and not mined, with those that somebody is about to sign."""
        return max(0, self.next_nonce - self.mined) + self._waiting

    @property
    def has_room(self) -> bool:
        return self.is_ours and self.in_flight < MOST_IN_FLIGHT

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Count as one in flight while waiting for the turn to sign."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def own(self, fence: int | None) -> bool:
        """Note whose the key is now; whether that is news."""
        if fence == self.fence:
            return False
        self.fence, self.is_known = fence, False
        return True

    def note_mined(self, mined: int) -> None:
        """All below this one are in blocks. A node that lags tells nothing new."""
        self.mined = max(self.mined, mined)
        self.taken = max(self.taken, mined)

    def note_taken(self, nonce: int) -> None:
        """A node has taken this nonce; gaps below it stay gaps."""
        if nonce == self.taken:
            self.taken = nonce + 1
