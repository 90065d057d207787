"""A random history of many writers at once ends with books that add up."""

import asyncio
import random
from collections import Counter

import pytest
from tests.credits.calls import capture, expire_due, extend, place, release
from tests.ledger.bookings import audit, balance, book, charge, give

from tallystick.credits.errors import HoldAlreadySettled, HoldTooSmall
from tallystick.credits.holds import PlacedHold
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.ledger.errors import InsufficientCredits

_CUSTOMERS = (1, 2, 3)
_WRITERS = 12
_STEPS = 40


class _History:
    """What was acknowledged: it must all be in the books, and nothing else."""

    def __init__(self, db: Database, clock: OffsetClock) -> None:
        self.db = db
        self.clock = clock
        self.posted: Counter[int] = Counter()
        self.placed: list[PlacedHold] = []
        self.charged: set[str] = set()

    async def run(self, seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(_STEPS):
            await self._step(choose)

    async def _step(self, choose: random.Random) -> None:
        customer, amount = choose.choice(_CUSTOMERS), choose.randint(1, 9)
        verbs = ["give", "charge", "charge", "place", "place", "settle", "settle"]
        verb = choose.choice([*verbs, "expire", "wait"])
        if verb == "give":
            await give(self.db, amount, customer)
            self.posted[customer] += amount
        elif verb == "charge":
            await self._charge(customer, choose.randint(1, 200))
        elif verb == "place":
            lived = choose.choice([1, 60])
            placed = await place(self.db, amount, customer, seconds=lived)
            if placed is not None:
                self.placed.append(placed)
        elif verb == "settle" and self.placed:
            await self._settle(choose)
        elif verb == "expire":
            await expire_due(self.db, choose.choice([None, customer]), limit=5)
        elif verb == "wait":
            self.clock.advance(0.4)

    async def _charge(self, customer: int, number: int) -> None:
        """Several writers come with the same key: it charges once."""
        key = f"{customer}-{number}"
        try:
            posted = await book(self.db, charge(1 + number % 7, key, customer))
        except InsufficientCredits:
            return
        if not posted.replayed:
            assert key not in self.charged
            self.charged.add(key)
            self.posted[customer] -= 1 + number % 7

    async def _settle(self, choose: random.Random) -> None:
        hold = choose.choice(self.placed)
        amount = choose.choice([None, 1, hold.amount, hold.amount + 1])
        try:
            match choose.randint(0, 3):
                case 0:
                    await release(self.db, hold.id)
                case 1:
                    await extend(self.db, hold.id, 2)
                case _:
                    await capture(self.db, hold.id, amount)
                    self.posted[hold.customer_id] -= amount or hold.amount
        except (HoldAlreadySettled, HoldTooSmall):
            pass


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_parallel_history_adds_up(
    db: Database, clock: OffsetClock, seed: int
) -> None:
    history = _History(db, clock)
    await asyncio.gather(*[history.run(seed * 1000 + n) for n in range(_WRITERS)])
    assert await audit(db) == []
    async with db.read() as session:
        rows = await query(
            session,
            "SELECT customer_id, SUM(amount) AS held FROM hold"
            " WHERE state = 'open' GROUP BY customer_id",
        )
    held = {row["customer_id"]: int(row["held"]) for row in rows}
    for customer in _CUSTOMERS:
        found = await balance(db, customer)
        assert found.posted == history.posted[customer]
        assert found.held == held.get(customer, 0)
    assert len(history.charged) > 20
    assert len(history.placed) > 20
