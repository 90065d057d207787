"""Any sequence of grants, charges, holds, refunds and hours keeps the books as the
model says, also when the clock jumps."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from tests.credits import calls
from tests.ledger import bookings
from tests.postgres import PostgresServer
from tests.properties.books import (
    NEVER,
    Books,
    ModelCharge,
    ModelHold,
    ModelLot,
)

from tallystick.credits.errors import HoldAlreadySettled, HoldTooSmall
from tallystick.credits.models import GrantCategory
from tallystick.kernel.clock import Clock
from tallystick.kernel.db import Database, open_database
from tallystick.kernel.errors import TallystickError
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.ledger.errors import IdempotencyMismatch, InsufficientCredits
from tallystick.ledger.sealing import seal_due

# Mostly one, so that his lots are many and their order matters.
_CUSTOMERS = st.sampled_from([1, 1, 1, 2])
# Small, so that what is spent and held comes from several.
_GIVEN = st.integers(2, 10)
_AMOUNTS = st.integers(1, 25)
_KEYS = st.sampled_from("abcdefghijklmnop")
_PRIORITIES = st.sampled_from([0, 0, 0, 0, -1, 1])
_CATEGORIES = st.sampled_from([one for one in GrantCategory if one != "paid"])
# Few, so that things are often looked at in the very second in which they lapse.
_SECONDS = st.sampled_from([5, 10, 20])
_JUMPS = st.sampled_from([5, 10, 20, 40, -5, -20])
_START = 1_800_000_000


class _StandingClock(Clock):
    """Moves only when told."""

    seconds = _START

    def now_ms(self) -> int:
        return self.seconds * 1000


class MoneyMachine(RuleBasedStateMachine):
    """Every rule does the same to the database and to the model."""

    make: ClassVar[Callable[[Path], Awaitable[str]]]
    """A fresh database's URL; the folder is the run's own."""

    holds = Bundle("holds")
    charges = Bundle("charges")
    lots = Bundle("lots")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = _StandingClock()
        self.db = self.runner.run(self._open())
        self.model = Books(now=_START)

    async def _open(self) -> Database:
        return open_database(await type(self).make(self.folder), self.clock)

    def teardown(self) -> None:
        try:
            assert self.runner.run(bookings.audit(self.db)) == []
        finally:
            self.runner.run(self.db.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    @rule(
        target=lots,
        customer=_CUSTOMERS,
        amount=_GIVEN,
        category=_CATEGORIES,
        priority=_PRIORITIES,
        begins=st.sampled_from([None, None, -5, 5, 20]),
        lives=st.sampled_from([None, None, 5, 10, 40]),
    )
    def give(
        self,
        customer: int,
        amount: int,
        category: GrantCategory,
        priority: int,
        begins: int | None,
        lives: int | None,
    ) -> int:
        effective = self.model.now + (begins or 0)
        expires = NEVER if lives is None else effective + lives
        lot_id = self.runner.run(
            bookings.give_lot(
                self.db,
                amount,
                customer,
                category=category,
                priority=priority,
                effective_at_ms=None if begins is None else effective * 1000,
                expires_at_ms=None if lives is None else int(expires) * 1000,
            )
        )
        lot = ModelLot(customer, amount, priority, effective, expires)
        self.model.give(lot_id, lot)
        return lot_id

    @rule(
        target=lots,
        customer=_CUSTOMERS,
        amount=_GIVEN,
        priority=_PRIORITIES,
        dollars=st.integers(1, 5),
    )
    def buy(self, customer: int, amount: int, priority: int, dollars: int) -> int:
        buying = bookings.buy(self.db, dollars, amount, customer, priority)
        self.runner.run(buying)
        lot_id = self.runner.run(bookings.newest_grant(self.db, customer))
        lot = ModelLot(customer, amount, priority, self.model.now, NEVER, paid=True)
        self.model.give(lot_id, lot)
        return lot_id

    @rule(target=charges, key=_KEYS, customer=_CUSTOMERS, amount=_AMOUNTS)
    def charge(self, key: str, customer: int, amount: int) -> object:
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
        if expected != "posted":
            return multiple()
        draws = self.model.draw(customer, amount)
        charge_id = posted.ledger_transaction_id
        self.model.charges[charge_id] = ModelCharge(customer, draws)
        return charge_id

    @rule(target=holds, customer=_CUSTOMERS, amount=_AMOUNTS, seconds=_SECONDS)
    def place(self, customer: int, amount: int, seconds: int) -> object:
        expected = self.model.place(customer, amount)
        placed = self.runner.run(
            calls.place(self.db, amount, customer, seconds=seconds)
        )
        assert (placed is not None) == expected
        if placed is None:
            return multiple()
        draws = self.model.draw(customer, amount)
        expires_at = self.model.now + seconds
        self.model.holds[placed.id] = ModelHold(customer, draws, expires_at)
        return placed.id

    @rule(target=charges, hold_id=holds, amount=st.none() | _AMOUNTS)
    def capture(self, hold_id: int, amount: int | None) -> object:
        held = self.model.holds[hold_id].amount
        taken = held if amount is None else amount
        too_small = "too small" if taken > held else None
        expected = self.model.settled_as(hold_id) or too_small
        refusal, posted = self._settle(calls.capture(self.db, hold_id, amount))
        assert refusal == expected
        if posted is None:
            return multiple()
        draws = self.model.close(hold_id, "captured", taken)
        charge_id = posted.ledger_transaction_id
        customer = self.model.holds[hold_id].customer
        self.model.charges[charge_id] = ModelCharge(customer, draws)
        return charge_id

    @rule(hold_id=holds)
    def release(self, hold_id: int) -> None:
        expected = self.model.settled_as(hold_id)
        assert self._settle(calls.release(self.db, hold_id))[0] == expected
        if expected is None:
            self.model.close(hold_id, "released", 0)

    @rule(hold_id=holds, seconds=_SECONDS)
    def extend(self, hold_id: int, seconds: int) -> None:
        expected = self.model.settled_as(hold_id)
        assert self._settle(calls.extend(self.db, hold_id, seconds))[0] == expected
        if expected is None:
            one = self.model.holds[hold_id]
            one.expires_at = max(one.expires_at, self.model.now + seconds)

    def _settle(self, verb: Coroutine[None, None, Any]) -> tuple[str | None, Any]:
        """What the hold was said to be instead, or what was done."""
        try:
            return None, self.runner.run(verb)
        except HoldAlreadySettled as refusal:
            return str(refusal.members["state"]), None
        except HoldTooSmall:
            return "too small", None

    @rule(charge_id=charges, amount=st.none() | st.integers(1, 12))
    def refund(self, charge_id: int, amount: int | None) -> None:
        refusal = self._refusal(bookings.refund(self.db, charge_id, amount))
        assert refusal == self.model.refund(charge_id, amount)

    @rule(grant_id=consumes(lots))
    def void(self, grant_id: int) -> None:
        refusal = self._refusal(bookings.void(self.db, grant_id))
        assert refusal == self.model.void(grant_id)

    def _refusal(self, verb: Coroutine[None, None, object]) -> str | None:
        try:
            self.runner.run(verb)
        except TallystickError as refusal:
            return refusal.code
        return None

    @rule(customer=st.none() | _CUSTOMERS)
    def expire(self, customer: int | None) -> None:
        expired = self.runner.run(calls.expire_due(self.db, customer))
        assert expired == self.model.expire(customer)

    @rule()
    def sweep(self) -> None:
        self.runner.run(calls.settle_due(self.db))
        self.model.sweep()
        self.runner.run(seal_due(self.db))

    @rule(seconds=_JUMPS)
    def jump(self, seconds: int) -> None:
        self.clock.seconds += seconds
        self.model.now += seconds

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        self.runner.run(self._compare())

    async def _compare(self) -> None:
        for customer in (1, 2):
            await self._compare_customer(customer)
        left = {
            number: lot.remaining
            for number, lot in self.model.lots.items()
            if lot.remaining
        }
        assert await bookings.remainders(self.db) == left
        async with self.db.read() as session:
            earned = [
                -await net_debits(session, one)
                for one in (
                    chart.feature_revenue("x"),
                    chart.feature_revenue("ai_analyst"),
                    chart.breakage(),
                )
            ]
        assert sum(earned[:2]) == self.model.revenue
        assert earned[2] == self.model.breakage
        owed = sum(self.model.posted(customer) for customer in (1, 2))
        assert owed == self.model.given - sum(earned)

    async def _compare_customer(self, customer: int) -> None:
        found = await bookings.balance(self.db, customer)
        assert found.posted == self.model.posted(customer)
        assert found.held == self.model.held(customer)
        # A clock that stepped back is noticed by the next one who writes; who only
        # reads may be told of a lot that had begun to count.
        if self.model.now >= self.model.written_at.get(customer, 0):
            assert found.available == self.model.available(customer)
            assert found.deferred == self.model.deferred(customer)


def _run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        MoneyMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)
def test_any_sequence_keeps_the_books_as_the_model_says(sqlite_template: Path) -> None:
    async def make(folder: Path) -> str:
        path = folder / "books.sqlite3"
        shutil.copy(sqlite_template, path)
        return f"sqlite+aiosqlite:///{path}"

    MoneyMachine.make = make
    _run(20, 50)


@pytest.mark.timeout(600)
def test_postgresql_keeps_them_alike(postgres: PostgresServer) -> None:
    async def make(_folder: Path) -> str:
        return postgres.url(await postgres.create_database())

    MoneyMachine.make = make
    _run(6, 25)
