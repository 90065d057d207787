"""What was answered long ago is forgotten, and nothing else is."""

from collections.abc import Sequence

import pytest

from tallystick.customers.wallets import create_customer
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.paywall.forgetting import Rounds
from tests.ledger.bookings import audit, give
from tests.paywall.test_deductions import Door, wanted

_DAY_SECONDS = 24 * 3600


async def _deduct(db: Database, keys: Sequence[str]) -> None:
    customer = await db.write(create_customer)
    await give(db, 1_000, customer)
    door = Door(db)
    told = await door.deduct_all([wanted(db, customer, one) for one in keys])
    assert not [one for one in told if isinstance(one, BaseException)]


async def _kept(db: Database) -> int:
    async with db.read() as session:
        (row,) = await query(session, "SELECT COUNT(*) AS found FROM stored_answer")
    return int(row["found"])


@pytest.mark.parametrize("at_once", [1, 3, 7, 20, 100])
async def test_each_answer_to_a_deduction_goes_once_it_is_old_however_few_are_looked_at(
    db: Database, clock: OffsetClock, at_once: int
) -> None:
    await _deduct(db, [f"old {number}" for number in range(20)])
    clock.advance(_DAY_SECONDS / 2)
    await _deduct(db, [f"new {number}" for number in range(11)])
    clock.advance(_DAY_SECONDS / 2 + 1)
    rounds = Rounds(db, at_once=at_once)
    # Once through them all, wherever old ones and new ones lie.
    gone = [await rounds.go_on() for _ in range(31 // at_once + 1)]
    assert (sum(gone), await _kept(db)) == (20, 11)
    clock.advance(_DAY_SECONDS / 2)
    gone = [await rounds.go_on() for _ in range(2 * (11 // at_once + 1))]
    assert (sum(gone), await _kept(db)) == (11, 0)
    assert await audit(db) == []


async def test_where_much_is_old_one_round_clears_it(
    db: Database, clock: OffsetClock
) -> None:
    await _deduct(db, [f"{number}" for number in range(30)])
    clock.advance(_DAY_SECONDS + 1)
    assert await Rounds(db, at_once=4).go_on() >= 26


async def test_what_is_kept_for_a_day_is_there_until_then(
    db: Database, clock: OffsetClock
) -> None:
    await _deduct(db, ["a", "b"])
    clock.advance(_DAY_SECONDS - 1)
    assert await Rounds(db).go_on() == 0
    assert await _kept(db) == 2
