"""Identifiers: 63-bit integers inside, opaque prefixed text at the edge.

An id is 41 bits of milliseconds, 10 bits of process slot and 12 bits of sequence.
Ids rise with time, so index pages fill in order (random keys cost 15-20 %), and two
processes never make the same one because the database hands each its own slot.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tallystick.kernel.clock import Clock, elapsed_ms
from tallystick.kernel.errors import NotFound

_EPOCH_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z
_SLOT_BITS = 10
_SEQUENCE_BITS = 12
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford: no i, l, o, u
_PAIRS = [upper + lower for upper in _ALPHABET for lower in _ALPHABET]
_TEXT_LENGTH = 13
SLOTS = 1 << _SLOT_BITS
_SET_FORWARD_MS = 60_000
"""A clock that goes on by so much more than has elapsed was set."""
_KNOWN_MS = 3_600_000
_MOST_KNOWN = 8


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Ids that a process made before its clock was set forward, and when that was seen.

    ``seen_ms`` is of a clock that nobody sets.
    """

    first: int
    last: int
    seen_ms: int


class IdFactory:
    """Makes rising ids that no other process with another slot makes."""

    def __init__(
        self, clock: Clock, slot: int, elapsed_ms: Callable[[], int] = elapsed_ms
    ) -> None:
        self._clock = clock
        self._slot = slot % SLOTS
        self._last_tick = 0
        self._elapsed_ms = elapsed_ms
        self._set_ms = clock.now_ms() - elapsed_ms()
        self._made: tuple[int, int] | None = None
        self._left: list[LeftBehind] = []

    def new(self) -> int:
        """A fresh id, larger than every earlier one of this factory."""
        now_ms = self._now_ms()
        now = (now_ms - _EPOCH_MS) << _SEQUENCE_BITS
        # A clock that stands still or steps back must not make an id twice.
        self._last_tick = max(now, self._last_tick + 1)
        milliseconds, sequence = divmod(self._last_tick, 1 << _SEQUENCE_BITS)
        upper = (milliseconds << _SLOT_BITS) | self._slot
        made = (upper << _SEQUENCE_BITS) | sequence
        self._made = (made if self._made is None else self._made[0], made)
        return made

    def left_behind(self) -> list[LeftBehind]:
        """What the clock left behind when it was set forward, in the last hour.

        Of a clock that is set again and again, the last eight times.
        """
        self._now_ms()
        oldest_ms = self._elapsed_ms() - _KNOWN_MS
        self._left = [one for one in self._left if one.seen_ms >= oldest_ms]
        return list(self._left)

    def _now_ms(self) -> int:
        """The time, after a look whether the clock was set forward since the last one."""
        elapsed = self._elapsed_ms()
        now = self._clock.now_ms()
        set_ms, self._set_ms = self._set_ms, now - elapsed
        if self._made is not None and now - elapsed > set_ms + _SET_FORWARD_MS:
            known = [*self._left, LeftBehind(*self._made, elapsed)]
            self._left, self._made = known[-_MOST_KNOWN:], None
        return now


def first_id_at(now_ms: int) -> int:
    """Every id that was made in that millisecond or later is at least this one."""
    return (now_ms - _EPOCH_MS) << (_SLOT_BITS + _SEQUENCE_BITS)


def made_at_ms(number: int) -> int:
    """When the id was made, by the clock of its process."""
    return (number >> (_SLOT_BITS + _SEQUENCE_BITS)) + _EPOCH_MS


class UnknownId(NotFound):
    """Text that is no identifier of the kind asked for."""

    next_step = "Send the identifier as an earlier answer spelled it."


def encode_id(prefix: str, number: int) -> str:
    """The id as callers see it: ``encode_id("cus", 42)`` is ``cus_000000000001a``."""
    upper, lower = divmod(number, 1 << 30)
    top, middle = divmod(upper, 1 << 30)
    return f"{prefix}_{_ALPHABET[top]}{_six(middle)}{_six(lower)}"


def _six(number: int) -> str:
    """Six digits; charges are told by the ten thousand, so they are looked up in pairs."""
    return _PAIRS[number >> 20] + _PAIRS[number >> 10 & 1023] + _PAIRS[number & 1023]


def decode_id(prefix: str, text: str) -> int:
    """The number behind an id; raises ``UnknownId`` for any other text."""
    head, _, body = text.partition("_")
    if head != prefix or len(body) != _TEXT_LENGTH or not set(body) <= set(_ALPHABET):
        raise UnknownId(f"{text[:40]!r} names no {prefix}_ object")
    number = 0
    for character in body:
        number = number * 32 + _ALPHABET.index(character)
    if number >= 1 << 63:
        raise UnknownId(f"{text[:40]!r} names no {prefix}_ object")
    return number
