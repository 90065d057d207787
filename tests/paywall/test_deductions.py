"""Deductions in a crowd: each charged once, with its own answer, never overdrawn."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from tallystick.credits import holds
from tallystick.customers.wallets import create_customer
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, open_database, query
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.errors import IdempotencyMismatch, InsufficientCredits
from tallystick.metering.charges import Usage
from tallystick.paywall.answers import idempotency_answer
from tallystick.paywall.deduct import deduct_alone
from tallystick.paywall.plain import Deducted, Deduction, plain_writes
from tests.ledger.bookings import audit, balance, give, give_lot

_CROWD = 64
_DAY_MS = 24 * 3600 * 1000


def left_after(one: Deducted) -> int:
    """What the answer says that remains, in micro-credits."""
    return int(json.loads(one.answer.body, parse_float=Decimal)["credits"] * 1_000_000)


def wanted(
    db: Database,
    customer: int,
    key: str | None = None,
    *,
    price: int = 1,
    asks: str = "00" * 16,
) -> Deduction:
    usage = Usage(customer, "echo", 1_000_000, MicroCredits(price), "v1")
    until = db.clock.now_ms() + _DAY_MS
    kept = key and idempotency_answer(customer, key, asks, until)
    return Deduction(usage, kept or None)


class Door:
    """The door of one process."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self.group = plain_writes(db)

    async def deduct(self, one: Deduction) -> Deducted:
        return await self.group.do(
            one, lambda: self.db.write(lambda session: self._alone(one, session))
        )

    async def _alone(self, one: Deduction, session: WriteSession) -> Deducted:
        return await deduct_alone(one, 60, session)

    async def deduct_all(
        self, crowd: Sequence[Deduction]
    ) -> list[Deducted | BaseException]:
        """All at once, so that most of them queue."""
        return await asyncio.gather(
            *[self.deduct(one) for one in crowd], return_exceptions=True
        )


@pytest.fixture
async def others(db: Database, database_url: str) -> AsyncIterator[Database]:
    """Another process on the same database; on SQLite there is none."""
    if db.is_sqlite:
        yield db
        return
    second = open_database(database_url)
    await second.start()
    yield second
    await second.close()


@pytest.fixture
async def alice(db: Database) -> int:
    return await db.write(create_customer)


async def events(db: Database) -> int:
    async with db.read() as session:
        (row,) = await query(session, "SELECT COUNT(*) AS rows FROM usage_event")
    return int(row["rows"])


async def test_a_hot_customer_is_charged_to_the_last_credit_and_no_further(
    db: Database, alice: int, others: Database
) -> None:
    await give(db, _CROWD, alice)
    one, two = Door(db), Door(others)
    outcomes = await asyncio.gather(
        one.deduct_all([wanted(db, alice, f"a{number}") for number in range(_CROWD)]),
        two.deduct_all([wanted(others, alice) for _ in range(_CROWD)]),
    )
    served = [done for half in outcomes for done in half if isinstance(done, Deducted)]
    refused = [done for half in outcomes for done in half if done not in served]
    assert all(isinstance(done, InsufficientCredits) for done in refused), refused
    left = sorted(left_after(done) for done in served)
    assert left == list(range(_CROWD)), "each has the balance after its own charge"
    assert (await balance(db, alice)).available == 0
    assert await events(db) == _CROWD


async def test_copies_of_one_key_are_charged_once_and_answered_alike(
    db: Database,
    alice: int,
) -> None:
    await give(db, 100, alice)
    door = Door(db)
    copies = [wanted(db, alice, f"key {number % 4}") for number in range(_CROWD)]
    done = await door.deduct_all(copies)
    assert all(isinstance(one, Deducted) for one in done), done
    answers = [one.answer for one in done if isinstance(one, Deducted)]
    assert len({one.body for one in answers}) == 4
    first = Counter(one.replayed for one in done if isinstance(one, Deducted))
    assert first == {False: 4, True: _CROWD - 4}
    assert (await balance(db, alice)).available == 96
    again = await door.deduct(copies[0])
    assert again == Deducted(answers[0], replayed=True)


async def test_copies_at_two_processes_are_charged_once(
    db: Database, alice: int, others: Database
) -> None:
    """Their batches race for the keys; the loser finds each answer alone."""
    await give(db, 1_000, alice)
    doors = (Door(db), Door(others))
    crowd = [wanted(db, alice, f"key {number}") for number in range(_CROWD)]
    done = [
        one
        for half in await asyncio.gather(*[door.deduct_all(crowd) for door in doors])
        for one in half
    ]
    assert all(isinstance(one, Deducted) for one in done), done
    assert (await balance(db, alice)).available == 1_000 - _CROWD
    assert await events(db) == _CROWD


async def test_a_key_that_asks_for_something_else_is_refused_in_the_crowd(
    db: Database,
    alice: int,
) -> None:
    await give(db, 100, alice)
    door = Door(db)
    await door.deduct(wanted(db, alice, "mine"))
    crowd = [wanted(db, alice, f"k{number}") for number in range(9)]
    outcomes = await door.deduct_all(
        [*crowd, wanted(db, alice, "mine", asks="11" * 16)]
    )
    assert isinstance(outcomes[-1], IdempotencyMismatch)
    assert all(isinstance(one, Deducted) for one in outcomes[:-1])
    assert (await balance(db, alice)).available == 90


async def test_the_price_of_a_neighbour_is_nobodys_business(
    db: Database, alice: int
) -> None:
    bob, carol = [await db.write(create_customer) for _ in range(2)]
    await give(db, 3, alice)
    await give(db, 50, bob)
    door, three = Door(db), (alice, bob, carol)
    crowd = [wanted(db, three[number % 3], price=2) for number in range(_CROWD // 2)]
    outcomes = await door.deduct_all(crowd)
    served = Counter(
        one.usage.customer_id
        for one, done in zip(crowd, outcomes, strict=True)
        if isinstance(done, Deducted)
    )
    assert served == {alice: 1, bob: 11}
    assert (await balance(db, alice)).available == 1
    assert (await balance(db, bob)).available == 28


async def test_a_crowd_spends_what_lapsed_holds_kept_and_nothing_that_expired(
    db: Database, alice: int, clock: OffsetClock
) -> None:
    await give(db, 10, alice)
    await give_lot(db, 10, alice, expires_at_ms=clock.now_ms() + 30_000)

    async def hold(session: WriteSession) -> object:
        return await holds.place(
            session, alice, "slow", MicroCredits(15), lifetime_seconds=10
        )

    assert await db.write(hold)
    clock.advance(40)
    outcomes = await Door(db).deduct_all([wanted(db, alice) for _ in range(20)])
    served = [one for one in outcomes if isinstance(one, Deducted)]
    assert len(served) == 10
    assert (await balance(db, alice)).available == 0
    assert await audit(db) == []


async def test_an_answer_that_is_kept_is_the_one_that_was_given(
    db: Database, alice: int
) -> None:
    await give(db, 10, alice)
    door = Door(db)
    done = await door.deduct_all(
        [wanted(db, alice, f"k{number}") for number in range(5)]
    )
    again = await door.deduct_all(
        [wanted(db, alice, f"k{number}") for number in range(5)]
    )
    assert [one.answer for one in again if isinstance(one, Deducted)] == [
        one.answer for one in done if isinstance(one, Deducted)
    ]
    assert all(isinstance(one, Deducted) and one.replayed for one in again)
    async with db.read() as session:
        rows = await query(session, "SELECT state, headers, body FROM stored_answer")
    assert {tuple(row.values()) for row in rows} == {("charged", None, None)}


async def test_one_that_the_database_does_not_take_spoils_no_neighbours(
    db: Database, alice: int
) -> None:
    await give(db, 100, alice)
    crowd = [wanted(db, alice, f"k{number}") for number in range(9)]
    usage = replace(crowd[0].usage, quantity=1 << 70)
    outcomes = await Door(db).deduct_all([*crowd, Deduction(usage, None), *crowd])
    assert isinstance(outcomes[9], Exception)
    assert sum(isinstance(one, Deducted) for one in outcomes) == 18
    assert (await balance(db, alice)).available == 91


async def test_prices_whose_sum_no_database_can_count_spoil_no_neighbours(
    db: Database, alice: int
) -> None:
    bob = await db.write(create_customer)
    await give(db, 1 << 60, alice)
    await give(db, 10, bob)
    crowd = [wanted(db, alice, price=1 << 61) for _ in range(9)]
    outcomes = await Door(db).deduct_all([*crowd, wanted(db, bob)])
    assert [isinstance(one, InsufficientCredits) for one in outcomes] == [True] * 9 + [
        False
    ]
    assert (await balance(db, bob)).available == 9
