"""What the books should say, as simply as it can be written.

Dictionaries and sums only; nothing of the code that is tested. Time is in seconds.
"""

import math
from dataclasses import dataclass, field, replace
from typing import TypeVar

T = TypeVar("T", "ModelLot", "ModelHold", "ModelCharge")
Draws = list[tuple[int, int]]


@dataclass
class ModelLot:
    customer: int
    remaining: int
    priority: int
    effective_at: int
    expires_at: float
    paid: bool = False


@dataclass
class ModelHold:
    customer: int
    draws: Draws
    expires_at: int
    state: str = "open"
    limited: bool = False

    @property
    def amount(self) -> int:
        return sum(amount for _, amount in self.draws)


@dataclass
class ModelAnswer:
    """What is known of a key: the charge's answer, or until when its call may run."""

    request: str
    charge_id: int | None
    answer: bytes
    runs_until: float


@dataclass
class ModelCharge:
    customer: int
    draws: Draws
    refunded: int = 0

    @property
    def amount(self) -> int:
        return sum(amount for _, amount in self.draws)


@dataclass
class Books:
    """``lots`` are in the order in which they came."""

    now: int = 0
    lots: dict[int, ModelLot] = field(default_factory=dict)
    holds: dict[int, ModelHold] = field(default_factory=dict)
    charges: dict[int, ModelCharge] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    answers: dict[tuple[int, str], ModelAnswer] = field(default_factory=dict)
    limit: int = 0
    used: dict[int, int] = field(default_factory=dict)
    written_at: dict[int, int] = field(default_factory=dict)
    revenue: int = 0
    breakage: int = 0
    given: int = 0

    def copy(self) -> "Books":
        """As it is now; what happens to one is nothing to the other."""
        return replace(
            self,
            lots=_copies(self.lots),
            holds=_copies(self.holds),
            charges=_copies(self.charges),
            keys=dict(self.keys),
            answers=dict(self.answers),
            used=dict(self.used),
            written_at=dict(self.written_at),
        )

    def held(self, customer: int) -> int:
        return sum(
            one.amount
            for one in self.holds.values()
            if one.customer == customer and one.state == "open"
        )

    def of(self, customer: int) -> list[tuple[int, ModelLot]]:
        return [one for one in self.lots.items() if one[1].customer == customer]

    def posted(self, customer: int) -> int:
        return self.held(customer) + sum(lot.remaining for _, lot in self.of(customer))

    def deferred(self, customer: int) -> int:
        return sum(
            lot.remaining for _, lot in self.of(customer) if lot.effective_at > self.now
        )

    def spendable(self, customer: int) -> list[tuple[int, ModelLot]]:
        found = [
            (number, lot)
            for number, lot in self.of(customer)
            if lot.effective_at <= self.now < lot.expires_at
        ]
        # Sorting is stable, so of equal lots the older one stays in front.
        return sorted(
            found, key=lambda one: (one[1].priority, one[1].expires_at, one[1].paid)
        )

    def available(self, customer: int) -> int:
        return sum(lot.remaining for _, lot in self.spendable(customer))

    def settle(self, customer: int) -> None:
        """Whoever writes a customer's books books his breakage as well."""
        self.written_at[customer] = self.now
        for _, lot in self.of(customer):
            if lot.expires_at <= self.now:
                self.breakage += lot.remaining
                lot.remaining = 0

    def sweep(self) -> None:
        for customer in {lot.customer for lot in self.lots.values()}:
            due = [
                lot
                for _, lot in self.of(customer)
                if lot.remaining and lot.expires_at <= self.now
            ]
            if due:
                self.settle(customer)
            # He is written, too, if a lot of his has only begun to count.
            written = self.written_at.get(customer, 0)
            self.written_at[customer] = max(written, self.now)

    def give(self, number: int, lot: ModelLot) -> None:
        self.lots[number] = lot
        self.given += lot.remaining
        self.settle(lot.customer)

    def draw(self, customer: int, amount: int) -> Draws:
        self.settle(customer)
        draws = []
        for number, lot in self.spendable(customer):
            taken = min(lot.remaining, amount)
            lot.remaining -= taken
            amount -= taken
            if taken:
                draws.append((number, taken))
        assert amount == 0
        return draws

    def return_last(self, draws: Draws, amount: int) -> None:
        """Give back ``amount``, what was drawn last first."""
        for number, taken in reversed(draws):
            part = min(taken, amount)
            self.lots[number].remaining += part
            amount -= part
        assert amount == 0

    def charge(self, key: str, customer: int, amount: int) -> str:
        if key in self.keys:
            return "replays" if self.keys[key] == (customer, amount) else "mismatches"
        if self.available(customer) < amount:
            return "short"
        self.keys[key] = (customer, amount)
        self.revenue += amount
        return "charges"

    def place(self, customer: int, amount: int) -> bool:
        if self.available(customer) < amount:
            self.expire(customer)
        return self.available(customer) >= amount

    def expire(self, customer: int | None = None) -> int:
        due = [
            one
            for one in self.holds.values()
            if one.state == "open"
            and one.expires_at <= self.now
            and customer in {None, one.customer}
        ]
        for one in due:
            one.state = "expired"
            self.return_last(one.draws, one.amount)
            self._free_limit(one, one.amount)
        for owner in {one.customer for one in due}:
            self.settle(owner)
        return len(due)

    def _free_limit(self, hold: ModelHold, amount: int) -> None:
        if hold.limited:
            self.used[hold.customer] -= amount

    def settled_as(self, hold_id: int) -> str | None:
        """How the hold was settled, or ``None`` while it can still be."""
        one = self.holds[hold_id]
        if one.state == "open":
            return "expired" if one.expires_at <= self.now else None
        return one.state

    def close(self, hold_id: int, state: str, taken: int) -> Draws:
        """What was captured: the first of the draws."""
        one = self.holds[hold_id]
        one.state = state
        self.return_last(one.draws, one.amount - taken)
        self._free_limit(one, one.amount - taken)
        self.settle(one.customer)
        self.revenue += taken
        captured, left = [], taken
        for number, drawn in one.draws:
            part = min(drawn, left)
            left -= part
            if part:
                captured.append((number, part))
        return captured

    def refund(self, charge_id: int, amount: int | None) -> str | None:
        one = self.charges[charge_id]
        left = one.amount - one.refunded
        wanted = left if amount is None else amount
        if left == 0:
            return "already_reversed"
        if wanted > left:
            return "reversal_too_large"
        # The draws as single credits, the last drawn first; some are back already.
        units = [number for number, drawn in one.draws for _ in range(drawn)][::-1]
        for number in units[one.refunded : one.refunded + wanted]:
            self.lots[number].remaining += 1
        one.refunded += wanted
        self.revenue -= wanted
        self.settle(one.customer)
        return None

    def void(self, number: int) -> str | None:
        lot = self.lots[number]
        if lot.remaining == 0 or lot.expires_at <= self.now:
            return "nothing_to_take_back"
        self.given -= lot.remaining
        lot.remaining = 0
        self.settle(lot.customer)
        return None


def _copies(of: dict[int, T]) -> dict[int, T]:
    return {number: replace(one) for number, one in of.items()}


NEVER = math.inf
