"""What the books should say, as simply as it can be written."""

from dataclasses import dataclass, field


@dataclass
class ModelHold:
    customer: int
    amount: int
    expires_at: int
    state: str = "open"


@dataclass
class Books:
    """Plain sums; time in seconds."""

    now: int = 0
    posted: dict[int, int] = field(default_factory=dict)
    holds: dict[int, ModelHold] = field(default_factory=dict)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    revenue: int = 0
    given: int = 0

    def held(self, customer: int) -> int:
        return sum(
            one.amount
            for one in self.holds.values()
            if one.customer == customer and one.state == "open"
        )

    def available(self, customer: int) -> int:
        return self.posted.get(customer, 0) - self.held(customer)

    def give(self, customer: int, amount: int) -> None:
        self.posted[customer] = self.posted.get(customer, 0) + amount
        self.given += amount

    def charge(self, key: str, customer: int, amount: int) -> str:
        if key in self.keys:
            return "replayed" if self.keys[key] == (customer, amount) else "mismatch"
        if self.available(customer) < amount:
            return "short"
        self.keys[key] = (customer, amount)
        self.posted[customer] -= amount
        self.revenue += amount
        return "posted"

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
        return len(due)

    def settled_as(self, hold_id: int) -> str | None:
        """How the hold was settled, or ``None`` while it can still be."""
        one = self.holds[hold_id]
        if one.state == "open":
            return "expired" if one.expires_at <= self.now else None
        return one.state

    def settle(self, hold_id: int, state: str, taken: int) -> None:
        one = self.holds[hold_id]
        one.state = state
        self.posted[one.customer] -= taken
        self.revenue += taken
