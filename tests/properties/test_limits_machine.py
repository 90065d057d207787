"""Any sequence of limits, takes, holds and hours agrees with a dictionary."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

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

from tallystick.credits import limits
from tallystick.credits.errors import LimitReached, UnknownLimit
from tallystick.credits.limits import LimitTake, Taken
from tallystick.credits.models import LimitPeriod
from tallystick.kernel.clock import Clock
from tallystick.kernel.db import Database, open_database

_START = datetime(2027, 1, 31, 22, 30, tzinfo=UTC)
_NAMES = st.sampled_from(["budget", "uses", "quota"])
_PERIODS = st.sampled_from(list(LimitPeriod))
_MOST = st.integers(0, 12)
_AMOUNTS = st.integers(0, 6)
_ASKED = st.lists(st.tuples(_NAMES, _AMOUNTS, st.booleans()), max_size=3)
# Around ends of hours, days and months, and back over them.
_JUMPS = st.sampled_from(
    [1, 1_800, 1_800, 3_600, 43_200, 86_400, 2_419_200, -1, -1_800]
)
_FOR_EVER = 10**9


def _end(period: LimitPeriod, now: datetime) -> datetime | None:
    """When the window ends, told by other arithmetic than the program's."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    midnight = hour.replace(hour=0)
    return {
        LimitPeriod.TOTAL: None,
        LimitPeriod.HOUR: hour + timedelta(hours=1),
        LimitPeriod.DAY: midnight + timedelta(days=1),
        LimitPeriod.MONTH: (midnight.replace(day=1) + timedelta(days=32)).replace(
            day=1
        ),
    }[period]


class _StandingClock(Clock):
    """Moves only when told."""

    now = _START

    def now_ms(self) -> int:
        return int(self.now.timestamp()) * 1000


@dataclass
class ModelLimit:
    """A limit as plain numbers; ``window`` is an object of its own for each window."""

    id: int
    most: int
    period: LimitPeriod
    ends: datetime | None
    used: int = 0
    window: object = field(default_factory=object)

    def roll(self, now: datetime) -> None:
        if self.ends is not None and self.ends <= now:
            self.ends, self.used, self.window = _end(self.period, now), 0, object()

    def used_at(self, now: datetime) -> int:
        return 0 if self.ends is not None and self.ends <= now else self.used


ModelTaken = list[tuple[ModelLimit, object, int, bool]]


@dataclass
class ModelHold:
    amount: int
    taken: ModelTaken


class LimitsMachine(RuleBasedStateMachine):
    """Every rule does the same to the database and to the dictionary."""

    make: ClassVar[Callable[[Path], Awaitable[str]]]

    takes = Bundle("takes")
    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = _StandingClock()
        self.db = self.runner.run(self._open())
        self.model: dict[str, ModelLimit] = {}
        # Long ago, so that his credits count wherever the clock jumps.
        self.clock.now -= timedelta(days=1)
        self.runner.run(bookings.give(self.db, 10**9))
        self.clock.now = _START

    async def _open(self) -> Database:
        return open_database(await type(self).make(self.folder), self.clock)

    def teardown(self) -> None:
        try:
            assert self.runner.run(bookings.audit(self.db)) == []
        finally:
            self.runner.run(self.db.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    @rule(name=_NAMES, most=_MOST, period=_PERIODS)
    def set(self, name: str, most: int, period: LimitPeriod) -> None:
        now = self.clock.now
        id_ = self.runner.run(calls.set_limit(self.db, most, period, name=name))
        found = self.model.get(name)
        if found is None:
            self.model[name] = ModelLimit(id_, most, period, _end(period, now))
            return
        assert id_ == found.id
        found.roll(now)
        if found.period != period:
            found.period, found.ends = period, _end(period, now)
        found.most = most

    @rule(name=_NAMES)
    def remove(self, name: str) -> None:
        removed = self.runner.run(
            self.db.write(lambda session: limits.remove_limit(session, "key:1", name))
        )
        assert removed == (self.model.pop(name, None) is not None)

    @rule(target=takes, asked=_ASKED)
    def take(self, asked: list[tuple[str, int, bool]]) -> object:
        known = [one for one in asked if one[0] in self.model]
        expected = self._expected(known)
        wanted = self._wanted(known)
        try:
            taken = self.runner.run(
                self.db.write(lambda session: limits.take(session, wanted))
            )
        except LimitReached:
            assert expected is None
            return multiple()
        assert expected is not None
        return taken, self._note(expected)

    @rule(amount=st.integers(1, 5))
    def take_from_a_limit_that_is_gone(self, amount: int) -> None:
        with pytest.raises(UnknownLimit):
            self.runner.run(calls.take(self.db, (1, amount)))

    @rule(made=consumes(takes))
    def give_back(self, made: tuple[tuple[Taken, ...], ModelTaken]) -> None:
        self.runner.run(calls.give_back(self.db, made[0]))
        self._return(made[1])

    @rule(target=holds, asked=_ASKED, amount=st.integers(1, 8))
    def place(self, asked: list[tuple[str, int, bool]], amount: int) -> object:
        known = [one for one in asked if one[0] in self.model]
        expected = self._expected(known)
        placing = calls.hold(
            self.db, amount, seconds=_FOR_EVER, limits=self._wanted(known)
        )
        try:
            hold_id = self.runner.run(placing)
        except LimitReached:
            assert expected is None
            return multiple()
        assert expected is not None
        return hold_id, ModelHold(amount, self._note(expected))

    @rule(held=consumes(holds), amount=st.integers(1, 8))
    def capture(self, held: tuple[int, ModelHold], amount: int) -> None:
        hold_id, model = held
        amount = min(amount, model.amount)
        self.runner.run(calls.capture(self.db, hold_id, amount))
        left = model.amount - amount
        self._return(
            [
                (limit, window, min(taken, left), in_credits)
                for limit, window, taken, in_credits in model.taken
                if in_credits
            ]
        )

    @rule(held=consumes(holds))
    def release(self, held: tuple[int, ModelHold]) -> None:
        self.runner.run(calls.release(self.db, held[0]))
        self._return(held[1].taken)

    @rule(seconds=_JUMPS)
    def jump(self, seconds: int) -> None:
        self.clock.now += timedelta(seconds=seconds)

    def _wanted(self, asked: list[tuple[str, int, bool]]) -> list[LimitTake]:
        return [
            LimitTake(self.model[name].id, amount, in_credits)
            for name, amount, in_credits in asked
        ]

    def _expected(
        self, asked: list[tuple[str, int, bool]]
    ) -> list[tuple[ModelLimit, int, bool]] | None:
        """What is taken, or ``None`` when a limit is reached; nothing changes yet."""
        now = self.clock.now
        wanted = [
            (self.model[name], amount, in_credits)
            for name, amount, in_credits in asked
            if amount
        ]
        for limit, _, _ in wanted:
            total = sum(amount for one, amount, _ in wanted if one is limit)
            if limit.used_at(now) + total > limit.most:
                return None
        return wanted

    def _note(self, expected: list[tuple[ModelLimit, int, bool]]) -> ModelTaken:
        for limit, amount, _ in expected:
            limit.roll(self.clock.now)
            limit.used += amount
        return [(limit, limit.window, *rest) for limit, *rest in expected]

    def _return(self, taken: ModelTaken) -> None:
        for limit, window, amount, _ in taken:
            if limit.window is window:
                limit.used -= amount

    @invariant()
    def the_limits_agree_with_the_dictionary(self) -> None:
        now = self.clock.now
        found = {
            one.name: (one.id, one.most, one.used, one.period)
            for one in self.runner.run(calls.limits_of(self.db))
        }
        assert found == {
            name: (one.id, one.most, one.used_at(now), one.period)
            for name, one in self.model.items()
        }


def _run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        LimitsMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)
def test_any_sequence_keeps_limits_as_the_dictionary_says(
    sqlite_template: Path,
) -> None:
    async def make(folder: Path) -> str:
        path = folder / "books.sqlite3"
        shutil.copy(sqlite_template, path)
        return f"sqlite+aiosqlite:///{path}"

    LimitsMachine.make = make
    _run(20, 50)


@pytest.mark.timeout(600)
def test_postgresql_keeps_them_alike(postgres: PostgresServer) -> None:
    async def make(_folder: Path) -> str:
        return postgres.url(await postgres.create_database())

    LimitsMachine.make = make
    _run(6, 25)
