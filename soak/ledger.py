"""``ledger``: the money machine of the tests, with longer programs, for hours.

Hypothesis writes programs of grants, purchases, charges, holds, captures, releases,
expiries, refunds, voids, replays and clock jumps, and after each step the books must
say what a dictionary says. The test plays the same few each time; here the programs of
each batch come from a seed of its own, and those from the campaign's. So a bad verdict
is had again with the same seed, as far as the batch that it names.
"""

import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.ledger.tampering import tamper
from tests.properties.test_money_machine import MoneyMachine

from soak import places
from soak.books import fresh_books
from soak.failures import words
from soak.plan import Plan
from tallystick.kernel.clock import Clock

# Hypothesis begins a batch with simple programs, and plays variations of the earlier
# ones after the tenth.
_PROGRAMS = 10
_STEPS = 100
_SPOILT_STEP = 12
_COMPARISON = "_compare"
# What one step does to the database, by the word that the verdict uses for it.
_STEP_OF = {
    "give_lot": "grant",
    "buy": "purchase",
    "book": "charge",
    "place": "hold",
    "capture": "capture",
    "release": "release",
    "extend": "extend",
    "refund": "refund",
    "void": "void",
    "expire_due": "expire",
    "settle_due": "sweep",
}


@dataclass
class _Played:
    """What was done so far: ``steps`` by their word, those refused apart."""

    programs: int = 0
    steps: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)

    def told(self) -> str:
        kinds = sorted(self.by_kind.items())
        return ", ".join(
            f"{count} {kind}" for kind, count in [("steps", self.steps), *kinds]
        )

    def report(self) -> dict[str, Any]:
        kinds = dict(sorted(self.by_kind.items()))
        return {"programs": self.programs, "steps": self.steps, "by_kind": kinds}


class _Watched:
    """The machine's runner, which counts and, if told so, spoils the books."""

    def __init__(self, runner: asyncio.Runner, clock: Clock, played: _Played) -> None:
        self._runner = runner
        self._clock = clock
        self._now_ms = clock.now_ms()
        self._played = played
        self._compared = 0
        self.spoil: Callable[[], Coroutine[Any, Any, None]] | None = None

    def run(self, work: "CoroutineType[Any, Any, Any]") -> Any:
        if work.__name__ == _COMPARISON:
            self._count_comparison()
        word = _STEP_OF.get(work.__name__)
        if word is None:
            return self._runner.run(work)
        try:
            done = self._runner.run(work)
        except Exception:
            self._played.by_kind[f"{word}, refused"] += 1
            raise
        is_replay = getattr(done, "replayed", False)
        self._played.by_kind[f"{word}, replayed" if is_replay else word] += 1
        return done

    def _count_comparison(self) -> None:
        # The first one is of the empty books.
        if self._compared:
            self._played.steps += 1
        self._compared += 1
        self._count_jump()
        if self.spoil is not None and self._compared == _SPOILT_STEP:
            self._runner.run(self.spoil())

    def _count_jump(self) -> None:
        """The only step that asks nothing of the database."""
        before, self._now_ms = self._now_ms, self._clock.now_ms()
        self._played.by_kind["jump"] += before != self._now_ms

    def close(self) -> None:
        self._runner.close()


class _TimeIsOver(BaseException):
    """Ends a batch; no Exception, which would be a finding."""


class _Machine(MoneyMachine):
    played: _Played
    end: float
    has_failed: bool
    was_interrupted: bool
    sabotage: bool
    tell: Callable[[str], None]

    def __init__(self) -> None:
        # One program at least; and to make a found one smaller may take its time.
        if self.played.programs and not self.has_failed and _now() >= self.end:
            type(self).was_interrupted = True
            raise _TimeIsOver
        super().__init__()
        self.played.programs += 1
        self.tell(f"program {self.played.programs} after {self.played.told()}")
        watched = _Watched(self.runner, self.clock, self.played)
        if self.sabotage:
            watched.spoil = self._spoil
        self.runner = watched  # type: ignore[assignment]  # all of it that is used

    def teardown(self) -> None:
        if isinstance(sys.exception(), Exception):
            type(self).has_failed = True
        super().teardown()

    async def _spoil(self) -> None:
        await tamper(self.db, "UPDATE account_balance SET balance = balance + 1")


def run(plan: Plan) -> dict[str, Any]:
    """The verdict; ``failure`` is the smallest program that makes the books differ."""
    _Machine.sabotage, _Machine.end = plan.sabotage, _now() + plan.seconds
    _Machine.tell = plan.tell
    _Machine.has_failed = _Machine.was_interrupted = False
    _Machine.played = played = _Played()
    chance, batches, failure = random.Random(plan.seed), 0, ""
    with places.folder() as folder, fresh_books(plan, folder) as make:
        _Machine.make = make
        while not failure and (not batches or _now() < _Machine.end):
            batches += 1
            failure = _failure(chance.getrandbits(64), plan)
    verdict = {
        "ok": not failure,
        "seed": plan.seed,
        "database": plan.database,
        "batches": batches,
    }
    verdict |= played.report()
    return verdict | ({"failure": failure} if failure else {})


def _now() -> float:
    return time.monotonic()


def _failure(number: int, plan: Plan) -> str:
    """Play a batch; what went wrong, with the program, or nothing."""
    options = settings(
        max_examples=_PROGRAMS,
        stateful_step_count=_STEPS,
        # Where the books were spoilt on purpose nobody needs the smallest program.
        phases=[Phase.generate] + [Phase.shrink] * (not plan.sabotage),
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(number)(_Machine), settings=options)
    except (_TimeIsOver, Exception) as error:  # noqa: BLE001 - the verdict tells it
        # Hypothesis may take a program that ends too soon for one that is flaky.
        if _Machine.was_interrupted:
            return ""
        return words(error)
    return ""
