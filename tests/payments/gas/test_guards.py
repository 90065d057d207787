"""Guards of which only an odd moment tells that they are there."""

from structlog.testing import capture_logs

from tallystick.chain.fault import FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.chain.logs import receipt
from tallystick.payments.rules.gas import GasRules
from tests.house import House, Process
from tests.payments.gas.scene import KEY, S, events, hostile_wallet, payers_gas, wait
from tests.payments.gas.test_reserves import GWEI, set_base_fee
from tests.payments.test_stuck import Swallow

ANYTHING = b"\x01" * 80
"""What a hostile wallet takes for its signature."""


async def test_an_early_attempt_that_reverted_is_no_nonce_lost_and_convicts_the_wallet(
    shop_house: House, chain: LocalChain
) -> None:
    """The newest attempt is in no block; the one before it is, and moved nothing."""
    async with FaultProxy(chain.url) as node:
        shop = await shop_house.start(node.url, relayers=(KEY,))
        hostile = await hostile_wallet(chain)
        signed = (await hostile.authorize(shop_house.pay_to, seconds=600))[0]
        topup_id = await shop.claim((signed, ANYTHING))
        node.inject("eth_sendRawTransaction", Swallow())
        await shop.step(topup_id)
        await wait(shop_house, 7)
        await shop.tend()
        first, second = await shop.sent(topup_id)
        assert first.evm_nonce == second.evm_nonce
        node.heal()
        await chain.rpc("eth_sendRawTransaction", f"0x{first.raw.hex()}")
        await chain.mine()
        found = await receipt(chain.chain, first.tx_hash)
        assert found is not None
        assert not found.succeeded
        with capture_logs() as logs:
            for _ in range(4):
                await shop.step(topup_id)
                await chain.mine()
        assert "relayer_nonce_used_elsewhere" not in events(logs)
        assert len(await shop.sent(topup_id)) == 2, "it gets no second nonce"
        assert (await shop.topup(topup_id)).state == S.WATCH


async def nearly_spent(house: House, chain: LocalChain) -> tuple[Process, int]:
    """A payer with no gas left for today, and a payment of his that waits."""
    shop = await house.start(relayers=(KEY,))
    hostile = await hostile_wallet(chain)
    first, second = [
        await shop.claim(
            ((await hostile.authorize(house.pay_to, seconds=seconds))[0], ANYTHING)
        )
        for seconds in (60, 600)
    ]
    await shop.step(first, times=2)
    await shop.tend()
    wasted = (await payers_gas(shop, hostile)).wasted
    assert wasted > 0
    await wait(house, 61)
    tight = GasRules(per_payer=wasted + 1)
    later = await house.restart(relayers=(KEY,), gas=tight)
    await later.step(first, times=2)
    return later, second


async def test_gas_that_is_dear_today_refuses_nobody_for_what_he_has_wasted(
    shop_house: House, chain: LocalChain
) -> None:
    """By today's price his budget is over, and it is the price that is in the way."""
    shop, waiting = await nearly_spent(shop_house, chain)
    await set_base_fee(chain, GWEI)
    topup = await shop.step(waiting, times=2)
    assert (topup.state, topup.reason) == (S.CLAIMED, "waits_for_gas")
    await set_base_fee(chain, GWEI // 100)
    topup = await shop.until(waiting, S.REJECTED)
    assert topup.reason == "gas_budget_of_payer"


async def test_a_payer_without_budget_costs_the_key_nothing_that_it_knows(
    shop_house: House, chain: LocalChain
) -> None:
    """Nothing was stored, so others are signed for without asking the chain anew."""
    shop, waiting = await nearly_spent(shop_house, chain)
    topup = await shop.until(waiting, S.REJECTED)
    assert topup.reason == "gas_budget_of_payer"
    assert shop.rail.sequence(KEY).is_ours
