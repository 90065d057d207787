"""Any sequence of grants, charges and holds keeps the books as the model says."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.credits import calls
from tests.ledger import bookings
from tests.properties.books import Books, ModelHold

from tallystick.credits.errors import HoldAlreadySettled, HoldTooSmall
from tallystick.kernel.clock import Clock
from tallystick.kernel.db import open_database
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.ledger.errors import IdempotencyMismatch, InsufficientCredits

_CUSTOMERS = st.sampled_from([1, 2, 3])
_AMOUNTS = st.integers(1, 30)
_KEYS = st.sampled_from(["a", "b", "c", "d", "e"])
# Few, so that a hold is often looked at in the very second in which it lapses.
_SECONDS = st.sampled_from([5, 10, 20])


class _StandingClock(Clock):
    """Moves only when told."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000

    def now_ms(self) -> int:
        return self.seconds * 1000


class MoneyMachine(RuleBasedStateMachine):
    """Every rule does the same to the database and to the model."""

    template: ClassVar[Path]
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        path = self.folder / "books.sqlite3"
        shutil.copy(self.template, path)
        self.clock = _StandingClock()
        self.db = open_database(f"sqlite+aiosqlite:///{path}", self.clock)
        self.runner.run(self.db.start())
        self.model = Books()
        self.keys = itertools.count()

    def teardown(self) -> None:
        self.runner.run(self.db.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    @rule(customer=_CUSTOMERS, amount=_AMOUNTS)
    def give(self, customer: int, amount: int) -> None:
        self.runner.run(bookings.give(self.db, amount, customer))
        self.model.give(customer, amount)

    @rule(customer=_CUSTOMERS, amount=_AMOUNTS, dollars=st.integers(1, 5))
    def buy(self, customer: int, amount: int, dollars: int) -> None:
        self.runner.run(bookings.buy(self.db, dollars, amount, customer))
        self.model.give(customer, amount)

    @rule(key=_KEYS, customer=_CUSTOMERS, amount=_AMOUNTS)
    def charge(self, key: str, customer: int, amount: int) -> None:
        expected = self.model.charge(key, customer, amount)
        posting = bookings.charge(amount, key, customer)
        try:
            posted = self.runner.run(bookings.book(self.db, posting))
        except InsufficientCredits:
            assert expected == "short"
        except IdempotencyMismatch:
            assert expected == "mismatch"
        else:
            assert expected == ("replayed" if posted.replayed else "posted")

    @rule(target=holds, customer=_CUSTOMERS, amount=_AMOUNTS, seconds=_SECONDS)
    def place(self, customer: int, amount: int, seconds: int) -> int | None:
        expected = self.model.place(customer, amount)
        placed = self.runner.run(
            calls.place(self.db, amount, customer, seconds=seconds)
        )
        assert (placed is not None) == expected
        if placed is None:
            return None
        expires_at = self.model.now + seconds
        self.model.holds[placed.id] = ModelHold(customer, amount, expires_at)
        return placed.id

    @rule(hold_id=holds, amount=st.none() | _AMOUNTS)
    def capture(self, hold_id: int | None, amount: int | None) -> None:
        if hold_id is None:
            return
        held = self.model.holds[hold_id].amount
        taken = held if amount is None else amount
        too_small = "too small" if taken > held else None
        expected = self.model.settled_as(hold_id) or too_small
        assert self._refusal(calls.capture(self.db, hold_id, amount)) == expected
        if expected is None:
            self.model.settle(hold_id, "captured", taken)

    @rule(hold_id=holds)
    def release(self, hold_id: int | None) -> None:
        if hold_id is None:
            return
        expected = self.model.settled_as(hold_id)
        assert self._refusal(calls.release(self.db, hold_id)) == expected
        if expected is None:
            self.model.settle(hold_id, "released", 0)

    @rule(hold_id=holds, seconds=_SECONDS)
    def extend(self, hold_id: int | None, seconds: int) -> None:
        if hold_id is None:
            return
        expected = self.model.settled_as(hold_id)
        assert self._refusal(calls.extend(self.db, hold_id, seconds)) == expected
        if expected is None:
            one = self.model.holds[hold_id]
            one.expires_at = max(one.expires_at, self.model.now + seconds)

    def _refusal(self, verb: Coroutine[None, None, object]) -> str | None:
        """What the hold was said to be instead, or ``None`` if it was done."""
        try:
            self.runner.run(verb)
        except HoldAlreadySettled as refusal:
            return str(refusal.members["state"])
        except HoldTooSmall:
            return "too small"
        return None

    @rule(customer=st.none() | _CUSTOMERS)
    def expire(self, customer: int | None) -> None:
        expired = self.runner.run(calls.expire_due(self.db, customer))
        assert expired == self.model.expire(customer)

    @rule(seconds=_SECONDS)
    def wait(self, seconds: int) -> None:
        self.clock.seconds += seconds
        self.model.now += seconds

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        self.runner.run(self._compare())

    async def _compare(self) -> None:
        for customer in (1, 2, 3):
            found = await bookings.balance(self.db, customer)
            assert found.posted == self.model.posted.get(customer, 0)
            assert found.held == self.model.held(customer)
        assert await bookings.audit(self.db) == []
        earned = 0
        async with self.db.read() as session:
            for slug in ("x", "ai_analyst"):
                earned -= await net_debits(session, chart.feature_revenue(slug))
        assert earned == self.model.revenue
        assert sum(self.model.posted.values()) == self.model.given - earned


@pytest.mark.timeout(300)
def test_any_sequence_keeps_the_books_as_the_model_says(sqlite_template: Path) -> None:
    MoneyMachine.template = sqlite_template
    run_state_machine_as_test(
        MoneyMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
