"""What a reorganisation can cost is a number that the operator has chosen (I10)."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel import col, select

from tallystick.chain.fault import Fault, FaultProxy
from tallystick.chain.faults import Answer, Forward
from tallystick.chain.local import LocalChain
from tallystick.claims.models import ClaimState
from tallystick.kernel.clock import OffsetClock
from tallystick.payments.errors import SettlementPending
from tallystick.payments.exposure import Caps
from tallystick.payments.models.topups import Exposure, TopUp, TopUpState
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.purchase import require_paid
from tests.house import DOLLAR, House, Process, Wallet
from tests.payments.test_observer import claim_as, suspense
from tests.strangers import submit

S = TopUpState
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
SAFE_AFTER = 8


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    async with LocalChain(slots_in_an_epoch=SAFE_AFTER) as local:
        await local.mine(3 * SAFE_AFTER)
        yield local


@pytest.fixture
async def house(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    made = House(chain, database_url, 1, clock)
    yield made
    for process in made.processes[:1]:
        assert (await process.audit()).findings == []
    await made.stop()


async def shop_with(
    house: House, customer: int, floor: int, percent: int = 0
) -> Process:
    caps = Caps(customer * DOLLAR, floor * DOLLAR, percent)
    return await house.start(caps=caps)


async def pay(shop: Process, payer: Wallet, dollars: int = 1) -> TopUp:
    """Pay and look a few times; it may wait."""
    signed = await payer.authorize(shop.rail.pay_to, dollars * DOLLAR)
    topup_id = await shop.claim(signed)
    for _ in range(100):
        topup = await shop.step(topup_id)
        if topup.state == S.CREDITED or topup.reason is not None:
            return topup
        await asyncio.sleep(0.01)
    raise AssertionError(f"it stays {topup.state}")


async def provisional(shop: Process) -> int:
    """What all together have before it is safe, in dollars."""
    everybody = select(Exposure.provisional).where(col(Exposure.customer_id) == 0)
    async with shop.db.read() as session:
        return ((await session.exec(everybody)).one_or_none() or 0) // DOLLAR


async def test_what_is_beyond_a_customers_cap_waits_until_its_block_is_safe(
    house: House, chain: LocalChain
) -> None:
    shop = await shop_with(house, customer=3, floor=100)
    payer = await Wallet(chain).fund()
    assert (await pay(shop, payer, 2)).state == S.CREDITED
    waits = await pay(shop, payer, 2)
    assert (waits.state, waits.reason) == (S.SIGNED, "waits_for_a_safe_block")
    await shop.observe()
    assert await suspense(shop) == 2 * DOLLAR, "the books have the money meanwhile"
    assert await shop.credits_of(payer) == 20 * DOLLAR
    assert (await pay(shop, await Wallet(chain).fund(), 3)).state == S.CREDITED
    assert await provisional(shop) == 5
    await chain.mine(SAFE_AFTER)
    await confirm(shop.db, shop.rail)
    await shop.observe()
    assert (await shop.topup(waits.id)).state == S.CREDITED
    assert (await shop.topup(waits.id)).reason is None
    assert await shop.credits_of(payer) == 40 * DOLLAR
    assert (await suspense(shop), await provisional(shop)) == (0, 0)


async def test_all_together_have_a_cap_which_grows_with_what_became_final(
    house: House, chain: LocalChain
) -> None:
    shop = await shop_with(house, customer=100, floor=4, percent=50)
    first = await pay(shop, await Wallet(chain).fund(), 4)
    assert first.state == S.CREDITED
    assert (await pay(shop, await Wallet(chain).fund())).state == S.SIGNED
    await chain.mine(2 * SAFE_AFTER)
    for _ in range(2):
        await confirm(shop.db, shop.rail)
    await shop.observe()
    assert (await shop.topup(first.id)).state == S.FINAL
    await chain.mine(2 * SAFE_AFTER)
    for _ in range(2):
        await confirm(shop.db, shop.rail)
    # Five dollars are final: half of that is less than the floor.
    assert (await pay(shop, await Wallet(chain).fund(), 5)).state == S.SIGNED
    await chain.mine(2 * SAFE_AFTER)
    for _ in range(2):
        await confirm(shop.db, shop.rail)
        await shop.observe()
    await confirm(shop.db, shop.rail)
    assert (await pay(shop, await Wallet(chain).fund(), 5)).state == S.CREDITED


async def test_of_payments_at_once_only_those_within_the_cap_are_credited(
    house: House, chain: LocalChain
) -> None:
    """Two processes see the Transfers in the same moment."""
    shops = [await shop_with(house, customer=2, floor=5) for _ in range(2)]
    shop = shops[0]
    signed = []
    for _ in range(8):
        payer = await Wallet(chain).fund()
        signed.append(await payer.authorize(house.pay_to))
    claims = [await shop.claim(one) for one in signed]
    for one in signed:
        await submit(chain, one)
    await asyncio.gather(
        *(each.step(claim) for each in shops for claim in claims),
        *(each.observe() for each in shops),
    )
    states = [(await shop.topup(one)).state for one in claims]
    assert states.count(S.CREDITED) == 5
    assert await provisional(shop) == 5
    await chain.mine(SAFE_AFTER)
    await confirm(shop.db, shop.rail)
    await shop.observe()
    assert await provisional(shop) == 0
    paid = [(await shop.topup(one)).state for one in claims]
    assert set(paid) <= {S.CREDITED, S.SAFE}


@ON_SQLITE
async def test_what_is_taken_back_counts_no_more(
    house: House, chain: LocalChain
) -> None:
    shop = await shop_with(house, customer=2, floor=2)
    payer = await Wallet(chain).fund()
    topup = await pay(shop, payer, 2)
    await shop.observe()
    assert topup.block_number is not None
    await chain.reorg(topup.block_number)
    await shop.observe()
    assert (await shop.topup(topup.id)).state == S.REVERSED
    assert await provisional(shop) == 0
    assert (await shop.until(topup.id, S.CREDITED)).exposed == 2 * DOLLAR


@ON_SQLITE
async def test_without_exposure_nothing_is_credited_before_it_is_safe(
    house: House, chain: LocalChain
) -> None:
    shop = await shop_with(house, customer=0, floor=0)
    payer = await Wallet(chain).fund()
    assert (await pay(shop, payer)).state == S.SIGNED
    await chain.mine(SAFE_AFTER)
    await confirm(shop.db, shop.rail)
    await shop.observe()
    assert await shop.credits_of(payer) == 10 * DOLLAR


@ON_SQLITE
async def test_who_waits_keeps_nobody_of_his_wallet_waiting(
    house: House, chain: LocalChain
) -> None:
    shop = await shop_with(house, customer=3, floor=100)
    payer = await Wallet(chain).fund()
    waits = await pay(shop, payer, 5)
    assert (waits.reason, waits.in_flight) == ("waits_for_a_safe_block", False)
    assert (await pay(shop, payer)).state == S.CREDITED


@ON_SQLITE
async def test_a_refused_payment_that_arrives_beyond_the_cap_is_refused_no_more(
    house: House, chain: LocalChain
) -> None:
    """A 402 would have its payer pay once more."""
    shop = await shop_with(house, customer=0, floor=0)
    payer = await Wallet(chain).fund(5 * DOLLAR)
    signed = await payer.authorize(house.pay_to, 5 * DOLLAR)
    topup_id = await shop.claim(signed)
    await payer.send(b"\x0e" * 20, DOLLAR)
    assert (await shop.settle(topup_id)).state == S.REJECTED
    await payer.fund(DOLLAR)
    await submit(chain, signed)
    await shop.observe()
    topup = await shop.topup(topup_id)
    assert (topup.state, topup.reason) == (S.WATCH, "waits_for_a_safe_block")
    with pytest.raises(SettlementPending):
        require_paid(topup)
    await chain.mine(SAFE_AFTER)
    await confirm(shop.db, shop.rail)
    await shop.observe()
    assert (await shop.topup(topup_id)).state == S.CREDITED


@ON_SQLITE
async def test_waived_payments_that_others_submit_wait_as_well(
    house: House, chain: LocalChain
) -> None:
    """They become top-ups when they are seen, and are looked for from there on."""
    shop = await shop_with(house, customer=1, floor=100)
    waiting = [await Wallet(chain).fund() for _ in range(3)]
    for one in waiting:
        signed = await one.authorize(house.pay_to, 2 * DOLLAR)
        await claim_as(shop, signed, ClaimState.WAIVED)
        await submit(chain, signed)
    await shop.observe()
    assert {one.reason for one in await shop.topups()} == {"waits_for_a_safe_block"}
    await chain.mine(SAFE_AFTER)
    await confirm(shop.db, shop.rail)
    await shop.observe()
    assert {one.state for one in await shop.topups()} == {S.CREDITED}


@ON_SQLITE
async def test_a_node_that_does_not_know_what_is_safe_knows_what_is_final(
    house: House, chain: LocalChain
) -> None:
    await shop_with(house, customer=0, floor=0)
    async with FaultProxy(chain.url) as proxy:
        shop = await house.start(proxy.url, caps=Caps(0, 0, 0))
        proxy.inject("eth_getBlockByNumber", NothingIsSafe())
        payer = await Wallet(chain).fund()
        assert (await pay(shop, payer)).state == S.SIGNED
        await chain.mine(2 * SAFE_AFTER)
        await confirm(shop.db, shop.rail)
        await shop.observe()
        assert await shop.credits_of(payer) == 10 * DOLLAR
        await confirm(shop.db, shop.rail)
        assert {one.state for one in await shop.topups()} <= {S.SAFE, S.FINAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingIsSafe(Fault):
    """Has no block of that tag."""

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        if request["params"][0] == "safe":
            return {"result": None}
        return await forward(request)


@ON_SQLITE
async def test_one_wrong_answer_does_not_lift_the_caps_for_good(
    house: House, chain: LocalChain
) -> None:
    """What is safe is what the nodes say now, also when that is less."""
    await shop_with(house, customer=0, floor=0)
    async with FaultProxy(chain.url) as proxy:
        shop = await house.start(proxy.url, caps=Caps(0, 0, 0))
        proxy.inject("eth_getBlockByNumber", NewestIsSafe(times=2))
        await confirm(shop.db, shop.rail)
        head = await shop.rail.head()
        assert shop.rail.outlook.safe_number == head.number
        await confirm(shop.db, shop.rail)
        assert shop.rail.outlook.safe_number == head.number - SAFE_AFTER
        payer = await Wallet(chain).fund()
        assert (await pay(shop, payer)).reason == "waits_for_a_safe_block"
        assert await shop.credits_of(payer) == 0
        proxy.inject("eth_getBlockByNumber", NothingIsFirm())
        await confirm(shop.db, shop.rail)
        assert shop.rail.outlook.safe_number == -1, "nobody says that anything is"
        proxy.heal()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewestIsSafe(Fault):
    """Takes its newest block for final and safe."""

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        return await forward({**request, "params": ["latest", False]})


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingIsFirm(Fault):
    """Has neither a safe nor a final block."""

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        if request["params"][0] in {"safe", "finalized"}:
            return {"result": None}
        return await forward(request)
