"""Programs of grants, charges, holds, refunds and hours, done to the books and to the
model, also when the clock jumps and when many come at once."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from hypothesis import event
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)
from tests.alarms import FROM_THE_FIRST, next_round, require_no_false_alarm
from tests.credits import calls
from tests.ledger import bookings
from tests.properties.books import (
    NEVER,
    Books,
    ModelCharge,
    ModelHold,
    ModelLot,
)
from tests.properties.comparison import audit, compare, limited_as
from tests.properties.door import Door
from tests.properties.groups import explained
from tests.properties.wishes import (
    AMOUNTS,
    GROUPS,
    PARTS,
    Item,
    amount_of,
    part_of,
    wants_of,
)

from tallystick.credits.errors import HoldAlreadySettled, HoldTooSmall
from tallystick.credits.models import GrantCategory
from tallystick.kernel.clock import Clock
from tallystick.kernel.db import Database, open_database
from tallystick.kernel.errors import TallystickError
from tallystick.ledger.errors import IdempotencyMismatch, InsufficientCredits
from tallystick.ledger.sealing import seal_due

T = TypeVar("T")

_EVERYBODY = (1, 2)
# Mostly one, so that his lots are many and their order matters.
_CUSTOMERS = st.sampled_from([1, 1, 1, 2])
# Mostly small, so that what is spent and held comes from several.
_GIVEN = st.integers(2, 10) | st.sampled_from([20, 40])
_PRIORITIES = st.sampled_from([0, 0, 0, 0, -1, 1])
_CATEGORIES = st.sampled_from([one for one in GrantCategory if one != "paid"])
# Few, so that things are often looked at in the very second in which they lapse.
_SECONDS = st.sampled_from([5, 10, 20])
# Which one of those that there are, the newest first; now and then one that is over.
_WHICH = st.integers(0, 9)
_OVER = 9
_SELDOM = st.sampled_from([False, False, False, True])
_JUMPS = st.sampled_from([5, 10, 20, 40, -5, -20])
_START = 1_800_000_000
_RESERVE = 60
_LIMIT = 12


class _StandingClock(Clock):
    """Moves only when told."""

    seconds = _START

    def now_ms(self) -> int:
        return self.seconds * 1000


class MoneyMachine(RuleBasedStateMachine):
    """Every rule does the same to the database and to the model.

    Who or what a rule is about is said by a number, and so a program does not hang on
    what became of the steps before.
    """

    make: ClassVar[Callable[[Path], Awaitable[str]]]
    """A fresh database's URL; the folder is the run's own."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = _StandingClock()
        self.db = self.runner.run(self._open())
        self.model = Books(now=_START, limit=_LIMIT)
        self.expired = 0
        self.checkpoint = FROM_THE_FIRST
        self.door = Door(self.db, self.runner.run(self._set_limits()))

    async def _open(self) -> Database:
        return open_database(await type(self).make(self.folder), self.clock)

    async def _set_limits(self) -> dict[int, int]:
        return {
            one: await calls.set_limit(self.db, _LIMIT, subject=limited_as(one))
            for one in _EVERYBODY
        }

    def teardown(self) -> None:
        try:
            assert self.runner.run(audit(self.db)) == []
            self.runner.run(require_no_false_alarm(self.db, at_once=1))
        finally:
            self.runner.run(self.db.close())
            self.runner.close()
            shutil.rmtree(self.folder)

    def did(self, what: str, times: int = 1) -> None:
        """Told of all that a step did, by the field's word."""
        if times:
            event(what)

    @initialize(some=st.lists(_GIVEN, min_size=2, max_size=4))
    def fund(self, some: list[int]) -> None:
        """Several lots, one that burns last, and an account of each revenue."""
        for customer in _EVERYBODY:
            self._give(customer, _RESERVE, priority=2)
            for amount in some:
                self._give(customer, amount)
            self._charge(f"the first of {customer}", customer, 1)
            self._capture(self._place(customer, 1, 20), None)

    @rule(
        customer=_CUSTOMERS,
        amount=_GIVEN,
        category=_CATEGORIES,
        priority=_PRIORITIES,
        begins=st.sampled_from([None, None, None, -5, 5, 20]),
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
    ) -> None:
        self._give(
            customer,
            amount,
            category=category,
            priority=priority,
            begins=begins,
            lives=lives,
        )

    def _give(
        self,
        customer: int,
        amount: int,
        *,
        category: GrantCategory = GrantCategory.PROMOTIONAL,
        priority: int = 0,
        begins: int | None = None,
        lives: int | None = None,
    ) -> None:
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
        self.did("grants")

    @rule(
        customer=_CUSTOMERS,
        amount=_GIVEN,
        priority=_PRIORITIES,
        dollars=st.integers(1, 5),
    )
    def buy(self, customer: int, amount: int, priority: int, dollars: int) -> None:
        buying = bookings.buy(self.db, dollars, amount, customer, priority)
        self.runner.run(buying)
        lot_id = self.runner.run(bookings.newest_grant(self.db, customer))
        lot = ModelLot(customer, amount, priority, self.model.now, NEVER, paid=True)
        self.model.give(lot_id, lot)
        self.did("purchases")

    def _amount(self, customer: int, wanted: int | str) -> int:
        # Of nothing there are no parts.
        if isinstance(wanted, str) and not self.model.available(customer):
            self._give(customer, 12)
        return amount_of(self.model, customer, wanted)

    @rule(customer=_CUSTOMERS, wanted=AMOUNTS)
    def charge(self, customer: int, wanted: int | str) -> None:
        key = f"key {len(self.model.keys)}"
        self._charge(key, customer, self._amount(customer, wanted))

    @rule(which=_WHICH, other=st.sampled_from(["", "", "amount", "customer"]))
    def charge_again(self, which: int, other: str) -> None:
        key = _one_of(list(self.model.keys), which)
        customer, amount = self.model.keys[key]
        customer = 3 - customer if other == "customer" else customer
        self._charge(key, customer, amount + (other == "amount"))

    def _charge(self, key: str, customer: int, amount: int) -> None:
        expected = self.model.charge(key, customer, amount)
        posting = bookings.charge(amount, key, customer)
        try:
            posted = self.runner.run(bookings.book(self.db, posting))
        except InsufficientCredits:
            assert expected == "short"
        except IdempotencyMismatch:
            assert expected == "mismatches"
        else:
            assert expected == ("replays" if posted.replayed else "charges")
        self.did(expected)
        if expected == "charges":
            draws = self.model.draw(customer, amount)
            charge_id = posted.ledger_transaction_id
            self.model.charges[charge_id] = ModelCharge(customer, draws)

    @rule(items=GROUPS)
    def come_at_once(self, items: list[Item]) -> None:
        """Through the door of production, where most are written together."""
        for one in items:
            self._amount(one.customer, one.wanted)
        wants = wants_of(self.model, items)
        told, written = self.runner.run(self.door.enter_all(wants))
        pairs = list(zip(wants, told, strict=True))
        after = explained(self.model, pairs)
        assert after is not None, f"no order explains {pairs}"
        self.model = after
        self.did("groups")
        self.did("written_together", written)
        for answer in told:
            self.did(answer.outcome)

    @rule(customer=_CUSTOMERS, wanted=AMOUNTS, seconds=_SECONDS)
    def place(self, customer: int, wanted: int | str, seconds: int) -> None:
        self._place(customer, self._amount(customer, wanted), seconds)

    def _place(self, customer: int, amount: int, seconds: int) -> int:
        """The hold's id, or nothing if he is short."""
        expected = self.model.place(customer, amount)
        placed = self.runner.run(
            calls.place(self.db, amount, customer, seconds=seconds)
        )
        assert (placed is not None) == expected
        if placed is None:
            self.did("short")
            return 0
        self.did("holds")
        draws = self.model.draw(customer, amount)
        expires_at = self.model.now + seconds
        self.model.holds[placed.id] = ModelHold(customer, draws, expires_at)
        return placed.id

    def _hold(self, which: int) -> int:
        """Mostly one that is open; it is placed if there is none."""
        live = [one for one in self.model.holds if not self.model.settled_as(one)]
        if which == _OVER:
            return _one_of([one for one in self.model.holds if one not in live], 0)
        return (
            _one_of(live, which) if live else self._place(1, self._amount(1, "bit"), 20)
        )

    @rule(which=_WHICH, wanted=PARTS)
    def capture(self, which: int, wanted: int | str | None) -> None:
        self._capture(self._hold(which), wanted)

    def _capture(self, hold_id: int, wanted: int | str | None) -> None:
        held = self.model.holds[hold_id].amount
        amount = part_of(held, wanted)
        taken = held if amount is None else amount
        too_small = "too small" if taken > held else None
        expected = self.model.settled_as(hold_id) or too_small
        refusal, posted = self._settle(calls.capture(self.db, hold_id, amount))
        assert refusal == expected
        self.did("settlements_refused" if refusal else "captures")
        if posted is not None:
            draws = self.model.close(hold_id, "captured", taken)
            customer = self.model.holds[hold_id].customer
            charge_id = posted.ledger_transaction_id
            self.model.charges[charge_id] = ModelCharge(customer, draws)

    @rule(which=_WHICH)
    def release(self, which: int) -> None:
        hold_id = self._hold(which)
        expected = self.model.settled_as(hold_id)
        assert self._settle(calls.release(self.db, hold_id))[0] == expected
        self.did("settlements_refused" if expected else "releases")
        if expected is None:
            self.model.close(hold_id, "released", 0)

    @rule(which=_WHICH, seconds=_SECONDS)
    def extend(self, which: int, seconds: int) -> None:
        hold_id = self._hold(which)
        expected = self.model.settled_as(hold_id)
        assert self._settle(calls.extend(self.db, hold_id, seconds))[0] == expected
        self.did("settlements_refused" if expected else "extensions")
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

    @rule(which=_WHICH, wanted=PARTS)
    def refund(self, which: int, wanted: int | str | None) -> None:
        charges = self.model.charges
        left = {number: one.amount - one.refunded for number, one in charges.items()}
        some = [number for number in left if left[number]]
        charge_id = _one_of(some if some and which != _OVER else list(left), which)
        amount = part_of(left[charge_id], wanted)
        refusal = self._refusal(bookings.refund(self.db, charge_id, amount))
        assert refusal == self.model.refund(charge_id, amount)
        self.did("refunds_refused" if refusal else "refunds")

    @rule(which=_WHICH)
    def void(self, which: int) -> None:
        some = [number for number, lot in self.model.lots.items() if lot.remaining]
        lots = some if some and which != _OVER else list(self.model.lots)
        grant_id = _one_of(lots, which)
        refusal = self._refusal(bookings.void(self.db, grant_id))
        assert refusal == self.model.void(grant_id)
        self.did("voids_refused" if refusal else "voids")

    def _refusal(self, verb: Coroutine[None, None, object]) -> str | None:
        try:
            self.runner.run(verb)
        except TallystickError as refusal:
            return refusal.code
        return None

    @rule(seconds=_JUMPS)
    def jump(self, seconds: int) -> None:
        self.clock.seconds += seconds
        self.model.now += seconds
        self.did("jumps")

    @rule(customer=st.sampled_from([None, 1, 2]), is_sweep=_SELDOM)
    def clean_up(self, customer: int | None, *, is_sweep: bool) -> None:
        """A sweeper comes, mostly for holds that lapsed."""
        if not is_sweep:
            expired = self.runner.run(calls.expire_due(self.db, customer))
            assert expired == self.model.expire(customer)
            return
        self.runner.run(calls.settle_due(self.db))
        self.model.sweep()
        self.runner.run(seal_due(self.db))
        self.did("sweeps")

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        lapsed = sum(one.state == "expired" for one in self.model.holds.values())
        self.did("expiries", lapsed - self.expired)
        self.expired = lapsed
        self.runner.run(compare(self.db, self.model, _EVERYBODY))

    @invariant()
    def the_audit_of_what_is_new_raises_no_false_alarm(self) -> None:
        """One after the other as a server makes them."""
        self.checkpoint = self.runner.run(next_round(self.db, self.checkpoint))


def _one_of(some: Sequence[T], which: int) -> T:
    """The newest but so many."""
    return some[-1 - which % len(some)]
