"""A deduction that a limit binds goes alone, and its limit is never passed over."""

import asyncio
import json

import pytest

from tallystick.api.answers import problem
from tallystick.credits.errors import LimitReached
from tallystick.credits.limits import LimitTake
from tallystick.credits.models import LimitPeriod
from tallystick.customers.wallets import create_customer
from tallystick.kernel.db import query
from tallystick.kernel.money import MicroCredits
from tallystick.metering.charges import Usage
from tallystick.paywall.answers import idempotency_answer
from tallystick.paywall.deduct import Deducted, Deduction, deduct
from tests.credits.calls import set_limit, used
from tests.house import House, Process
from tests.ledger.bookings import balance, give

_CROWD = 24
_DAY_MS = 24 * 3600 * 1000


@pytest.fixture
async def shop(any_house: House) -> Process:
    return await any_house.start()


@pytest.fixture
async def alice(shop: Process) -> int:
    customer_id = await shop.db.write(create_customer)
    await give(shop.db, 1_000, customer_id)
    return customer_id


def wanted(
    shop: Process, customer_id: int, *takes: LimitTake, key: str | None = None
) -> Deduction:
    usage = Usage(customer_id, "echo", 1_000_000, MicroCredits(2), "v1", takes)
    until = shop.db.clock.now_ms() + _DAY_MS
    kept = key and idempotency_answer(customer_id, key, "00" * 16, until)
    return Deduction(usage, kept or None)


async def test_a_crowd_of_deductions_stays_within_its_limit(
    shop: Process, alice: int
) -> None:
    """Among others that no limit binds, and that are written together."""
    uses = await set_limit(shop.db, 7)
    limited = [wanted(shop, alice, LimitTake(uses, 1)) for _ in range(_CROWD)]
    others = [wanted(shop, alice) for _ in range(_CROWD)]
    mixed = [one for pair in zip(limited, others, strict=True) for one in pair]
    outcomes = await asyncio.gather(
        *[deduct(shop.gate, one) for one in mixed], return_exceptions=True
    )
    served = [isinstance(one, Deducted) for one in outcomes]
    assert (sum(served[::2]), sum(served[1::2])) == (7, _CROWD)
    refused = [one for one in outcomes[::2] if not isinstance(one, Deducted)]
    assert all(isinstance(one, LimitReached) for one in refused), refused
    assert await used(shop.db, uses) == 7
    assert (await balance(shop.db, alice)).posted == 1_000 - 2 * (7 + _CROWD)


async def test_copies_of_one_key_take_of_its_limit_once(
    shop: Process, alice: int
) -> None:
    uses = await set_limit(shop.db, 1)
    copy = wanted(shop, alice, LimitTake(uses, 1), key="mine")
    done = await asyncio.gather(*[deduct(shop.gate, copy) for _ in range(8)])
    assert len({one.answer.body for one in done}) == 1
    assert sorted(one.replayed for one in done) == [False] + [True] * 7
    assert await used(shop.db, uses) == 1


async def test_a_refusal_is_not_kept_under_its_key(
    shop: Process, any_house: House, alice: int
) -> None:
    """The same key is served when the window is over."""
    budget = await set_limit(shop.db, 3, LimitPeriod.DAY)
    first, second = [
        wanted(shop, alice, LimitTake(budget, 2, in_credits=True), key=key)
        for key in ("first", "second")
    ]
    await deduct(shop.gate, first)
    with pytest.raises(LimitReached):
        await deduct(shop.gate, second)
    async with shop.db.read() as session:
        assert len(await query(session, "SELECT key FROM stored_answer")) == 1
    any_house.clock.advance(24 * 3600)
    assert not (await deduct(shop.gate, second)).replayed


async def test_the_answer_tells_when_to_come_back(shop: Process, alice: int) -> None:
    budget = await set_limit(shop.db, 3, LimitPeriod.HOUR, subject="customer:7")
    await deduct(shop.gate, wanted(shop, alice, LimitTake(budget, 2)))
    with pytest.raises(LimitReached) as refused:
        await deduct(shop.gate, wanted(shop, alice, LimitTake(budget, 2)))
    told = problem(refused.value, "")
    assert told.status_code == 429
    assert 0 < int(told.headers["retry-after"]) <= 3600
    body = json.loads(told.body)
    assert (body["code"], body["limit"]) == ("limit_reached", "budget")
    assert (body["most"], body["used"], body["left"]) == (3, 2, 1)
    assert body["resets_at"].endswith(":00:00.000Z")
    assert b"customer:7" not in told.body
