"""What a transaction may cost is reserved before it is stored, and settled by its receipt."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from tallystick.chain.fault import FaultProxy, Rewrite
from tallystick.chain.l1_fee import GAS_PRICE_ORACLE
from tallystick.chain.local import LocalChain
from tallystick.chain.logs import receipt
from tallystick.chain.relay import Fees
from tallystick.payments.gas.budget import (
    Bound,
)
from tallystick.payments.gas.costs import divide
from tallystick.payments.models.gas import GasOutcome
from tallystick.payments.models.topups import SentKind
from tallystick.payments.rules.gas import GAS_RULES, GasRules
from tests.house import DOLLAR, House, Wallet
from tests.payments.gas.scene import (
    KEY,
    S,
    claimed,
    days_of,
    events,
    gas_of,
    payers_gas,
    settle_and_count,
    wait,
)
from tests.payments.test_stuck import Swallow

GWEI = 10**9


# Returns 16 wei for each byte, whatever function is called.
PRICE_OF_DATA = bytes.fromhex("600435601002" + "5f5260205ff3")


async def set_base_fee(local: LocalChain, wei: int) -> None:
    await local.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))
    await local.mine()


async def test_a_bump_reserves_the_difference_only_and_only_what_is_mined_is_spent(
    shop_house: House, chain: LocalChain
) -> None:
    async with FaultProxy(chain.url) as node:
        shop = await shop_house.start(node.url, relayers=(KEY,))
        topup_id = await claimed(shop_house, shop)
        node.inject("eth_sendRawTransaction", Swallow())
        await shop.step(topup_id)
        await wait(shop_house, 7)
        await shop.tend()
        _, second = await shop.sent(topup_id)
        (day,) = await days_of(shop)
        assert day.reserved == second.gas_limit * second.max_fee_per_gas
        node.heal()
        topup = await settle_and_count(shop, topup_id)
        assert topup.tx_hash == second.tx_hash
        await shop.tend()
        found = await receipt(chain.chain, second.tx_hash)
        assert found is not None
        gas = await gas_of(shop, topup_id)
        assert [one.outcome for one in gas] == ["not_mined", "succeeded"]
        assert [one.cost for one in gas] == [0, found.cost]
        assert sum(one.spent for one in gas) == found.cost
        (day,) = await days_of(shop)
        assert (day.reserved, day.spent) == (0, found.cost)


async def test_what_is_signed_is_brought_to_its_end_beyond_the_budget(
    shop_house: House, chain: LocalChain
) -> None:
    """A bump has a quarter of the budget for itself."""
    async with FaultProxy(chain.url) as node:
        shop = await shop_house.start(node.url, relayers=(KEY,))
        topup_id = await claimed(shop_house, shop)
        node.inject("eth_sendRawTransaction", Swallow())
        await shop.step(topup_id)
        (day,) = await days_of(shop)
        full = GasRules(per_day=day.reserved, per_payer=day.reserved)
        later = await shop_house.restart(node.url, relayers=(KEY,), gas=full)
        await chain.advance(11)
        await later.tend()
        assert later.rail.obstacle is not None
        assert len(await later.sent(topup_id)) == 2
        node.heal()
        assert (await later.settle(topup_id)).state == S.CREDITED


async def test_beyond_the_reserve_a_bump_waits_and_a_filler_does_not(
    shop_house: House, chain: LocalChain
) -> None:
    """A filler costs less than what its nonce has reserved."""
    async with FaultProxy(chain.url) as node:
        shop = await shop_house.start(node.url, relayers=(KEY,))
        payer = await Wallet(chain).fund()
        signed = await payer.authorize(shop_house.pay_to, seconds=600)
        topup_id = await shop.claim(signed)
        node.inject("eth_sendRawTransaction", Swallow())
        await shop.step(topup_id)
        (day,) = await days_of(shop)
        tight = GasRules(per_day=day.reserved // 2)
        later = await shop_house.restart(node.url, relayers=(KEY,), gas=tight)
        await chain.advance(11)
        with capture_logs() as logs:
            await later.tend()
        assert "relayer_budget_in_the_way" in events(logs)
        assert len(await later.sent(topup_id)) == 1
        await payer.cancel(signed[0].nonce)
        node.heal()
        await wait(shop_house, 7)
        await later.tend()
        _, filler = await later.sent(topup_id)
        assert filler.kind == SentKind.FILLER
        await chain.mine(3)
        assert (await settle_and_count(later, topup_id)).state == S.CANCELED
        found = await receipt(chain.chain, filler.tx_hash)
        assert found is not None
        mine = await payers_gas(later, payer)
        assert (mine.reserved, mine.wasted) == (0, found.cost), "it was his to pay for"
        (day,) = await days_of(later)
        assert (day.reserved, day.spent, day.wasted) == (0, found.cost, found.cost)


async def test_a_nonce_that_somebody_else_used_is_given_back_once_that_is_final(
    shop_house: House, chain: LocalChain
) -> None:
    async with FaultProxy(chain.url) as node:
        shop = await shop_house.start(node.url, relayers=(KEY,))
        topup_id = await claimed(shop_house, shop)
        node.inject("eth_sendRawTransaction", Swallow())
        await shop.step(topup_id)
        await chain.send(KEY.address, b"\x0e" * 20)
        await shop.tend()
        (gas,) = await gas_of(shop, topup_id)
        assert gas.outcome == GasOutcome.OPEN
        await chain.mine(3)
        await shop.tend()
        (gas,) = await gas_of(shop, topup_id)
        assert (gas.outcome, gas.spent) == (GasOutcome.NOT_MINED, 0)
        node.heal()
        assert (await shop.settle(topup_id)).state == S.CREDITED


async def test_dear_gas_lets_a_small_payment_wait_and_not_a_large_one(
    shop_house: House, chain: LocalChain
) -> None:
    shop = await shop_house.start(relayers=(KEY,))
    small, large = await Wallet(chain).fund(), await Wallet(chain).fund()
    cent = await shop.claim(await small.authorize(shop_house.pay_to, 10_000))
    dollars = await shop.claim(await large.authorize(shop_house.pay_to, 50 * DOLLAR))
    await set_base_fee(chain, GWEI // 2)
    topup = await shop.step(cent, times=2)
    assert (topup.state, topup.reason) == (S.CLAIMED, "waits_for_gas")
    assert await shop.sent(cent) == []
    assert (await shop.settle(dollars)).state == S.CREDITED
    await set_base_fee(chain, GWEI // 100)
    topup = await shop.settle(cent)
    assert (topup.state, topup.reason) == (S.CREDITED, None)


async def test_gas_that_stays_dear_lets_the_window_close(
    shop_house: House, chain: LocalChain
) -> None:
    shop = await shop_house.start(relayers=(KEY,))
    payer = await Wallet(chain).fund()
    cent = await shop.claim(await payer.authorize(shop_house.pay_to, 10_000))
    await set_base_fee(chain, GWEI)
    await shop.step(cent)
    await wait(shop_house, 91)
    assert (await shop.step(cent)).state == S.EXPIRED
    assert await shop.sent(cent) == []


async def test_what_the_chain_bills_for_data_counts(
    shop_house: House, chain: LocalChain
) -> None:
    await chain.plant(GAS_PRICE_ORACLE, PRICE_OF_DATA)
    billed = 12_345

    def bill(answer: Any) -> Any:
        return answer and answer | {"l1Fee": hex(billed)}

    async with FaultProxy(chain.url) as node:
        node.inject("eth_getTransactionReceipt", Rewrite(change=bill))
        shop = await shop_house.start(node.url, relayers=(KEY,))
        topup_id = await claimed(shop_house, shop)
        await shop.step(topup_id)
        (sent,) = await shop.sent(topup_id)
        (day,) = await days_of(shop)
        for_data = day.reserved - sent.gas_limit * sent.max_fee_per_gas
        unsigned_bytes = len(sent.raw) - 67
        assert 16 * unsigned_bytes <= for_data <= 16 * (unsigned_bytes + 64)
        await settle_and_count(shop, topup_id)
        await shop.tend()
        (gas,) = await gas_of(shop, topup_id)
        found = await receipt(chain.chain, sent.tx_hash)
        assert found is not None
        assert gas.cost == found.cost + billed
        asked = node.seen["eth_getCode"]
        await settle_and_count(shop, await claimed(shop_house, shop))
        assert node.seen["eth_getCode"] == asked + 2, (
            "the payer's code before the claim and before signing, not the chain's"
        )


def test_a_cent_can_be_settled_at_the_usual_fees_of_base() -> None:
    """0.05 gwei, which a settlement may pay twice, and a contract's dollar."""
    usual = Bound(102_000, Fees(2 * 50_000_000 + 1_000_000, 1_000_000))
    assert usual.wei <= GAS_RULES.most_wei(10_000)
    dear = Bound(102_000, Fees(GWEI, 1_000_000))
    assert dear.wei > GAS_RULES.most_wei(10_000)
    assert dear.wei <= GAS_RULES.most_wei(20 * DOLLAR)
    assert GAS_RULES.most_wei(100 * DOLLAR) == 10**15, "five dollars of 5,000"


@pytest.mark.parametrize(
    ("cost", "reserved", "parts"),
    [
        (5, [10], [5]),
        (12, [10, 5], [10, 2]),
        (10, [10, 5], [10, 0]),
        (20, [10, 5], [10, 10]),
        (0, [10, 5], [0, 0]),
    ],
)
def test_no_day_gets_more_than_it_had_reserved(
    cost: int, reserved: list[int], parts: list[int]
) -> None:
    assert divide(cost, reserved) == parts
    assert sum(parts) == cost
