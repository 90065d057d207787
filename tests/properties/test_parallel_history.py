"""A random history of many writers at once ends with books that add up."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from tests.alarms import FROM_THE_FIRST, next_round
from tests.credits.calls import (
    capture,
    expire_due,
    extend,
    place,
    release,
    settle_due,
)
from tests.ledger.bookings import (
    audit,
    balance,
    book,
    charge,
    give,
    give_lot,
    refund,
)

from tallystick.credits.errors import HoldAlreadySettled, HoldTooSmall
from tallystick.credits.holds import PlacedHold
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.ledger import sealing
from tallystick.ledger.errors import (
    AlreadyReversed,
    InsufficientCredits,
    ReversalTooLarge,
)
from tallystick.ledger.links import unpacked
from tallystick.ledger.sealing import seal_due
from tallystick.workers.rounds import whole

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
        self.charges: list[tuple[int, int]] = []
        self.refunds = 0

    async def run(self, seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(_STEPS):
            await self._step(choose)

    async def _step(self, choose: random.Random) -> None:
        customer, amount = choose.choice(_CUSTOMERS), choose.randint(1, 9)
        verbs = ["give", "charge", "charge", "place", "place", "settle", "settle"]
        verb = choose.choice([*verbs, "lot", "refund", "expire", "sweep", "wait"])
        if verb == "give":
            await give(self.db, amount, customer)
            self.posted[customer] += amount
        elif verb == "lot":
            await self._give_lot(customer, amount, choose)
        elif verb == "refund" and self.charges:
            await self._refund(choose.randint(1, 3), choose)
        elif verb == "charge":
            await self._charge(customer, choose.randint(1, 200))
        elif verb == "place":
            lived = choose.choice([1, 60])
            placed = await place(self.db, amount, customer, seconds=lived)
            if placed is not None:
                self.placed.append(placed)
        elif verb == "settle" and self.placed:
            await self._settle(choose)
        else:
            await self._pass_time(verb, choose)

    async def _pass_time(self, verb: str, choose: random.Random) -> None:
        if verb == "expire":
            customer = choose.choice([None, *_CUSTOMERS])
            await expire_due(self.db, customer, limit=5)
        elif verb == "sweep":
            await settle_due(self.db, limit=2)
        elif verb == "wait":
            self.clock.advance(0.4)

    async def _give_lot(
        self, customer: int, amount: int, choose: random.Random
    ) -> None:
        now = self.db.clock.now_ms()
        begins = now + choose.choice([-100, 0, 300])
        ends = begins + choose.choice([150, 600, 10_000])
        await give_lot(
            self.db,
            amount,
            customer,
            priority=choose.choice([0, 1]),
            effective_at_ms=begins,
            expires_at_ms=ends,
        )
        self.posted[customer] += amount

    async def _refund(self, amount: int, choose: random.Random) -> None:
        charge_id, customer = choose.choice(self.charges)
        try:
            await refund(self.db, charge_id, amount)
        except (AlreadyReversed, ReversalTooLarge):
            return
        self.refunds += 1
        self.posted[customer] += amount

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
            self.charges.append((posted.ledger_transaction_id, customer))
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
                    posted = await capture(self.db, hold.id, amount)
                    made = (posted.ledger_transaction_id, hold.customer_id)
                    self.charges.append(made)
                    self.posted[hold.customer_id] -= amount or hold.amount
        except (HoldAlreadySettled, HoldTooSmall):
            pass


async def _seal_for_ever(db: Database) -> None:
    while True:
        await whole(seal_due(db))
        await asyncio.sleep(0.01)


async def _require_sealed_once(db: Database, clock: OffsetClock) -> None:
    clock.advance(5)
    await seal_due(db)
    async with db.read() as session:
        seals = await query(session, "SELECT transaction_ids FROM journal_seal")
        posted = await query(session, "SELECT id FROM ledger_transaction ORDER BY id")
    sealed = [one for row in seals for one in unpacked(row["transaction_ids"])]
    assert sorted(sealed) == [row["id"] for row in posted]
    assert len(seals) > 5


@contextlib.asynccontextmanager
async def _sealed_meanwhile(db: Database) -> AsyncIterator[None]:
    sealers = [asyncio.create_task(_seal_for_ever(db)) for _ in "ab"]
    try:
        yield
    finally:
        for one in sealers:
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await one


@contextlib.asynccontextmanager
async def _audited_meanwhile(db: Database) -> AsyncIterator[None]:
    """Rounds one after the other, none of which may raise a false alarm."""
    ended = asyncio.Event()

    async def rounds() -> int:
        since, count = FROM_THE_FIRST, 0
        while not ended.is_set():
            since = await next_round(db, since)
            count += 1
        return count

    auditor = asyncio.create_task(rounds())
    try:
        yield
    finally:
        ended.set()
        assert await auditor > 1


async def play(db: Database, clock: OffsetClock, seed: int) -> _History:
    """Many writers at once, while others seal what they post and audit it."""
    history = _History(db, clock)
    async with (
        _sealed_meanwhile(db),
        _audited_meanwhile(db),
        asyncio.TaskGroup() as writers,
    ):
        for n in range(_WRITERS):
            writers.create_task(history.run(seed * 1000 + n))
    return history


async def require_that_it_adds_up(history: _History) -> int:
    """All that was acknowledged and nothing else; returns what expired."""
    db = history.db
    assert await audit(db) == []
    await _require_sealed_once(db, history.clock)
    async with db.read() as session:
        rows = await query(
            session,
            "SELECT customer_id, SUM(amount) AS held FROM hold"
            " WHERE state = 'open' GROUP BY customer_id",
        )
    async with db.read() as session:
        expired = await query(
            session,
            "SELECT customer_id, SUM(-entry.amount) AS amount FROM entry"
            " JOIN ledger_account ON ledger_account.id = ledger_account_id"
            " JOIN ledger_transaction ON ledger_transaction.id = ledger_transaction_id"
            " WHERE kind = 'expiry' AND customer_id IS NOT NULL GROUP BY customer_id",
        )
    breakage = {row["customer_id"]: int(row["amount"]) for row in expired}
    held = {row["customer_id"]: int(row["held"]) for row in rows}
    for customer in _CUSTOMERS:
        found = await balance(db, customer)
        assert found.posted == history.posted[customer] - breakage.get(customer, 0)
        assert found.held == held.get(customer, 0)
    return sum(breakage.values())


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_parallel_history_adds_up(
    db: Database, clock: OffsetClock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that many a transaction commits after one with a higher id was sealed.
    monkeypatch.setattr(sealing, "_MARGIN_MS", 0)
    history = await play(db, clock, seed)
    assert await require_that_it_adds_up(history) > 20
    assert len(history.charged) > 20
    assert len(history.placed) > 20
    assert history.refunds > 5
