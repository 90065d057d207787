"""Time as a constructor argument, so that tests move it without patching.

Wall-clock instants are integer milliseconds since the Unix epoch; chain windows are
integer seconds, as the chain has them.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ms_of(at: datetime) -> int:
    """Milliseconds since the Unix epoch of a time that knows its zone."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def rfc3339(at_ms: int) -> str:
    """The time for people, in UTC: ``2026-11-21T18:50:33.601Z``."""
    shown = (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")
    return shown.replace("+00:00", "Z")


class Clock(Protocol):
    """Where the time comes from."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000


class SteadyClock:
    """The machine's clock as it was once, going on whatever it is set to later.

    For processes that measure their difference to a shared clock from time to time: in
    between, a clock that is set must not lapse holds and lots of all the others.
    """

    def __init__(self) -> None:
        self._began_ns = time.time_ns() - _elapsed_ns()

    def now_ms(self) -> int:
        return (self._began_ns + _elapsed_ns()) // 1_000_000


def elapsed_ms() -> int:
    """Milliseconds since some moment, whatever the clock is set to."""
    return _elapsed_ns() // 1_000_000


def _elapsed_ns() -> int:
    # Where there is one that goes on while the machine sleeps, it is the right one.
    which = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(which)


class OffsetClock:
    """The machine's clock moved by ``offset_ms``, which a test may change."""

    def __init__(self, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    def advance(self, seconds: float) -> None:
        """Move the clock forward by so many seconds."""
        self.offset_ms += int(seconds * 1000)


class SharedClock:
    """A process's clock, corrected to the clock that all processes share.

    Processes on several machines must agree when a hold lapses, so each measures how
    far its own clock is from the database server's.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._correction_ms = 0

    def now_ms(self) -> int:
        return self._clock.now_ms() + self._correction_ms

    def correct(self, *, before_ms: int, shared_ms: int, after_ms: int) -> None:
        """Take the shared clock's reading, made between two of the machine's own.

        A reading between the two proves no difference, so it changes nothing.
        """
        nearest = min(max(shared_ms, before_ms), after_ms)
        self._correction_ms = shared_ms - nearest
