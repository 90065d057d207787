"""The arithmetic of lots: what burns first, what may be spent now, what has expired.

Nothing here reads a clock or a database. A lot is a part of a customer's credits that
came in at once and shares one fate: it is spent, or it expires. Whoever decides hands
in the lots and the time, so every path to the books decides alike.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

_NEVER = 1 << 63


class Draw(NamedTuple):
    """So many micro-credits of one lot; positive, whichever way they go."""

    lot_id: int
    amount: int


@dataclass(slots=True)
class Lot:
    """What is left of a lot, in micro-credits, and when it counts.

    It can be spent from ``effective_at_ms`` on and before ``expires_at_ms``, which is
    ``None`` for a lot that never expires. What is held has left ``remaining``.
    """

    id: int
    remaining: int
    priority: int
    bought: bool
    effective_at_ms: int
    expires_at_ms: int | None

    def is_deferred(self, now: int) -> bool:
        return self.effective_at_ms > now

    def has_expired(self, now: int) -> bool:
        return self.expires_at_ms is not None and self.expires_at_ms <= now

    def is_spendable(self, now: int) -> bool:
        return not self.is_deferred(now) and not self.has_expired(now)

    @property
    def burn_order(self) -> tuple[int, int, bool, int]:
        """What burns first: priority, earliest expiry, what was not bought, oldest."""
        expires = _NEVER if self.expires_at_ms is None else self.expires_at_ms
        return self.priority, expires, self.bought, self.id


def available(lots: Iterable[Lot], now: int) -> int:
    """What may be spent at this time."""
    return sum(one.remaining for one in lots if one.is_spendable(now))


def expired(lots: Iterable[Lot], now: int) -> int:
    """What nobody may spend any more, whether or not its breakage is booked."""
    return sum(one.remaining for one in lots if one.has_expired(now))


def deferred(lots: Iterable[Lot], now: int) -> int:
    """What may be spent later."""
    return sum(one.remaining for one in lots if one.is_deferred(now))


def next_change_ms(lots: Iterable[Lot], now: int) -> int | None:
    """When time alone will change what may be spent; ``None`` for never."""
    times = [
        at
        for one in lots
        if one.remaining
        for at in (one.effective_at_ms, one.expires_at_ms)
        if at is not None and at > now
    ]
    return min(times, default=None)


def burning(lots: Iterable[Lot], now: int) -> Lot | None:
    """The lot that is spent from next; until time or a new lot changes that."""
    return min(_spendable(lots, now), key=lambda one: one.burn_order, default=None)


def choose(lots: Iterable[Lot], amount: int, now: int) -> tuple[Draw, ...] | None:
    """The draws that a spending of ``amount`` takes, in burn order; ``None`` if short."""
    draws = []
    for lot in sorted(_spendable(lots, now), key=lambda one: one.burn_order):
        taken = min(lot.remaining, amount)
        draws.append(Draw(lot.id, taken))
        amount -= taken
        if not amount:
            return tuple(draws)
    return None


def _spendable(lots: Iterable[Lot], now: int) -> list[Lot]:
    return [one for one in lots if one.remaining and one.is_spendable(now)]


def split(
    draws: Sequence[Draw], amount: int
) -> tuple[tuple[Draw, ...], tuple[Draw, ...]]:
    """The first ``amount`` of the draws, and the rest of them."""
    taken, rest = [], []
    for lot_id, drawn in draws:
        part = min(drawn, amount)
        amount -= part
        if part:
            taken.append(Draw(lot_id, part))
        if drawn > part:
            rest.append(Draw(lot_id, drawn - part))
    if amount:
        raise ValueError("more was asked of the draws than they hold")
    return tuple(taken), tuple(rest)


def last_drawn_first(
    drawn: Sequence[Draw], returned: Sequence[Draw], amount: int
) -> tuple[Draw, ...]:
    """Where ``amount`` of a charge goes back to, less what went back before."""
    before: dict[int, int] = {}
    for lot_id, part in returned:
        before[lot_id] = before.get(lot_id, 0) + part
    left = []
    for lot_id, part in reversed(drawn):
        gone = min(part, before.get(lot_id, 0))
        before[lot_id] = before.get(lot_id, 0) - gone
        left.append(Draw(lot_id, part - gone))
    return split(left, amount)[0]


def pack(changes: Sequence[Draw], amount: int) -> tuple[int | None, str | None]:
    """How a row remembers its lots: one by its id alone, several as ``[[id, amount]]``.

    One lot means that it took all of the row's ``amount``; then eight bytes suffice.
    Amounts may be negative here: what left a lot, beside what entered another.
    """
    if len(changes) == 1 and abs(changes[0].amount) == amount:
        return changes[0].lot_id, None
    return None, json.dumps(changes, separators=(",", ":"))


def unpack(lot_id: int | None, packed: str | None, amount: int) -> tuple[Draw, ...]:
    """What ``pack`` packed; ``amount`` is the row's, signed as the reader wants it."""
    if lot_id is not None:
        return (Draw(lot_id, amount),)
    return tuple(Draw(*one) for one in json.loads(packed or "[]"))
