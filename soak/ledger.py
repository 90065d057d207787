"""``ledger``: the money machine of the tests, with longer programs, for hours.

Hypothesis writes programs of grants, purchases, charges, holds, captures, releases,
expiries, refunds, voids, replays, clock jumps and of groups of charges and holds that
come at once through the door of production. After each step the books must say what a
dictionary says. The test plays the same few each time; here the programs of each batch
come from a seed of its own, and those from the campaign's. So a bad verdict is had again
with the same seed, as far as the batch that it names.

What was done is counted. A run of half a minute that saw none of one of the main kinds
proved nothing of it, and is bad.
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
from tests.properties.comparison import compare
from tests.properties.machine import MoneyMachine

from soak import places
from soak.books import fresh_books
from soak.failures import words
from soak.plan import Plan
from tallystick.kernel.db import query

# Hypothesis begins a batch with simple programs, and plays variations of the earlier
# ones after the tenth.
_PROGRAMS = 10
_STEPS = 60
_SPOILT_STEP = 12
_COMPARISON = compare.__name__
# What a step is there for; other steps only prepare it or let time pass.
_WORTH = (
    "charges",
    "grouped_charges",
    "holds",
    "grouped_holds",
    "captures",
    "refunds",
    "replays",
    "grouped_replays",
)
_MAIN = (
    *_WORTH,
    "grants",
    "purchases",
    "groups",
    "written_together",
    "mismatches",
    "short",
    "releases",
    "extensions",
    "expiries",
    "voids",
    "jumps",
)
_LONG_SECONDS = 30


@dataclass
class _Played:
    """What was done so far; ``worth`` are the steps that did what money is there for."""

    programs: int = 0
    steps: int = 0
    worth: int = 0
    spoilt: int = 0
    did: Counter[str] = field(default_factory=Counter)
    last: set[str] = field(default_factory=set)

    def note(self, what: str, times: int) -> None:
        if times:
            self.did[what] += times
            self.last.add(what)

    def end_step(self) -> None:
        self.steps += 1
        self.worth += not self.last.isdisjoint(_WORTH)
        self.last.clear()

    def told(self) -> str:
        counted = [("steps", self.steps), *sorted(self.did.items())]
        return ", ".join(f"{count} {what}" for what, count in counted)

    def report(self) -> dict[str, Any]:
        """All counts; of what was also refused otherwise, in the order of the words."""
        others = sorted(self.did.keys() - set(_MAIN))
        counts = {what: self.did[what] for what in (*_MAIN, *others)}
        return {
            "programs": self.programs,
            "steps": self.steps,
            "worth": self.worth,
            **counts,
        }

    def missing(self) -> list[str]:
        return [what for what in _MAIN if not self.did[what]]


class _Watched:
    """The machine's runner, which counts and, if told so, spoils the books."""

    def __init__(self, runner: asyncio.Runner, played: _Played) -> None:
        self._runner = runner
        self._played = played
        self._compared = 0
        self.spoil: Callable[[], Coroutine[Any, Any, bool]] | None = None

    def run(self, work: "CoroutineType[Any, Any, Any]") -> Any:
        if work.__name__ == _COMPARISON:
            self._played.end_step()
            self._compared += 1
            if self._compared >= _SPOILT_STEP:
                self.spoil_once()
        return self._runner.run(work)

    def spoil_once(self) -> None:
        if self.spoil is not None and self._runner.run(self.spoil()):
            self._played.spoilt += 1
            self.spoil = None

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
        self.watched = _Watched(self.runner, self.played)
        if self.sabotage:
            self.watched.spoil = self._spoil
        self.runner = self.watched  # type: ignore[assignment]  # all of it that is used

    def did(self, what: str, times: int = 1) -> None:
        self.played.note(what, times)

    def teardown(self) -> None:
        if isinstance(sys.exception(), Exception):
            type(self).has_failed = True
        # A program that was too short is spoilt at its end, for the audit to find.
        self.watched.spoil_once()
        super().teardown()

    async def _spoil(self) -> bool:
        """Whether there was a balance to spoil."""
        async with self.db.read() as session:
            found = await query(session, "SELECT balance FROM account_balance LIMIT 1")
        await tamper(self.db, "UPDATE account_balance SET balance = balance + 1")
        return bool(found)


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
    failure = failure or _proved_nothing(plan, played)
    verdict = {
        "ok": not failure,
        "seed": plan.seed,
        "database": plan.database,
        "batches": batches,
    }
    verdict |= played.report()
    return verdict | ({"failure": failure} if failure else {})


def _proved_nothing(plan: Plan, played: _Played) -> str:
    """Why programs without a fault prove nothing, or nothing."""
    if plan.sabotage:
        words = (
            "the spoilt books were not noticed" if played.spoilt else "nothing spoilt"
        )
        return f"sabotage: {words}"
    if plan.seconds >= _LONG_SECONDS and played.missing():
        return f"none of: {', '.join(played.missing())}"
    return ""


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
