"""What gas may cost (A31): by day, by payer, against the value; and what it has cost."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from eth_utils.crypto import keccak
from sqlmodel import col, select
from structlog.testing import capture_logs

from tallystick.chain.fault import FaultProxy, Rewrite
from tallystick.chain.l1_fee import GAS_PRICE_ORACLE
from tallystick.chain.local import LocalChain, artifact
from tallystick.chain.logs import receipt
from tallystick.chain.relay import Fees
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, open_database
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.gas_budget import (
    Bound,
    DaySpent,
    NoBudget,
    PayerSpent,
    Signed,
    reserve_first,
)
from tallystick.payments.gas_costs import divide, settle_gas
from tallystick.payments.gas_models import GasDay, GasOutcome, PayerGas, RelayedGas
from tallystick.payments.gas_rules import GAS_RULES, GasRules
from tallystick.payments.models import RelayedTransaction, SentKind, TopUp, TopUpState
from tallystick.payments.relayer import store_row
from tallystick.x402.errors import PaymentRejected
from tests.house import DOLLAR, House, Process, Wallet, relayer
from tests.payments.test_stuck import Swallow

S = TopUpState
KEY = relayer(2)
ONLY_IN_SIMULATION = 6
GWEI = 10**9
DAY_SECONDS = 24 * 3600
# Returns 16 wei for each byte, whatever function is called.
PRICE_OF_DATA = bytes.fromhex("600435601002" + "5f5260205ff3")


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    async with LocalChain() as fresh:
        yield fresh


@pytest.fixture
async def shop_house(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    """At noon, so that no test runs into the next day unless it means to."""
    made = House(chain, database_url, 0, clock)
    try:
        await wait(made, seconds_until_midnight(clock) + DAY_SECONDS // 2)
        yield made
        auditor = await made.start()
        assert (await auditor.audit()).findings == []
    finally:
        await made.stop()


def seconds_until_midnight(clock: OffsetClock) -> int:
    return DAY_SECONDS - clock.now_ms() // 1000 % DAY_SECONDS


async def wait(house: House, seconds: int) -> None:
    house.clock.advance(seconds)
    await house.local.advance(seconds)


async def set_base_fee(local: LocalChain, wei: int) -> None:
    await local.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))
    await local.mine()


async def hostile_wallet(local: LocalChain) -> Wallet:
    """A contract that has signed everything, as long as nobody pays for the gas."""
    wallet = Wallet(local)
    await local.plant(wallet.address, artifact("HostileWallet"))
    mood = ONLY_IN_SIMULATION.to_bytes(32, "big")
    await local.write_storage(wallet.address, 0, mood)
    return await wallet.fund()


async def claimed(
    house: House, shop: Process, wallet: Wallet | None = None, *, seconds: int = 90
) -> int:
    payer = wallet or await Wallet(house.local).fund()
    return await shop.claim(await payer.authorize(house.pay_to, seconds=seconds))


async def gas_of(shop: Process, topup_id: int) -> list[RelayedGas]:
    query = (
        select(RelayedGas)
        .join(
            RelayedTransaction,
            col(RelayedTransaction.tx_hash) == col(RelayedGas.tx_hash),
        )
        .where(col(RelayedTransaction.topup_id) == topup_id)
        .order_by(col(RelayedTransaction.evm_nonce), col(RelayedTransaction.attempt))
    )
    async with shop.db.read() as session:
        return list((await session.exec(query)).all())


async def days_of(shop: Process) -> list[GasDay]:
    async with shop.db.read() as session:
        query = select(GasDay).order_by(col(GasDay.day))
        return list((await session.exec(query)).all())


async def payers_gas(shop: Process, wallet: Wallet) -> PayerGas:
    query = select(PayerGas).where(col(PayerGas.payer) == wallet.address)
    async with shop.db.read() as session:
        return (await session.exec(query)).one()


async def settle_and_count(shop: Process, topup_id: int) -> TopUp:
    topup = await shop.settle(topup_id)
    await shop.tend()
    return topup


def events(logs: list[Any]) -> list[str]:
    return [line["event"] for line in logs]


async def test_fifty_hostile_payments_cost_no_more_than_their_payers_budget(
    shop_house: House, chain: LocalChain
) -> None:
    """Each passes the rehearsal and reverts; an honest payer pays all the while."""
    rules = GasRules(per_payer=10**12)
    shop = await shop_house.start(relayers=(KEY,), gas=rules)
    hostile = await hostile_wallet(chain)
    honest = await Wallet(chain).fund()
    signed, refused, served = [], 0, 0
    for number in range(50):
        attack = await hostile.authorize(shop_house.pay_to, seconds=60)
        try:
            topup_id = await shop.claim((attack[0], b"\x01" * 80))
        except PaymentRejected:
            refused += 1
        else:
            signed.append(topup_id)
            for _ in range(6):
                await shop.step(topup_id)
                await chain.mine()
                await shop.tend()
        if number % 10 == 0:
            paid = await claimed(shop_house, shop, honest)
            assert (await settle_and_count(shop, paid)).state == S.CREDITED
            served += 1
        # Its window closes, so that the next of the wallet has its turn.
        await wait(shop_house, 61)
        for topup_id in signed[-1:]:
            await shop.step(topup_id)
    found = [row for one in signed for row in await shop.sent(one)]
    seen = [await receipt(chain.chain, one.tx_hash) for one in found]
    cost = sum(one.cost for one in seen if one)
    reverted = [one for one in seen if one and not one.succeeded]
    assert len(reverted) >= 2, "the attack works as long as there is money for it"
    assert 0 < cost <= rules.per_payer
    assert refused > 20, "nothing is written any more"
    assert (await payers_gas(shop, hostile)).wasted == cost
    fair = await payers_gas(shop, honest)
    assert (fair.wasted, fair.reserved, served) == (0, 0, 5)
    (day,) = await days_of(shop)
    assert (day.reserved, day.wasted) == (0, cost)


async def test_what_is_credited_gives_the_payers_share_back_and_counts_what_it_cost(
    shop_house: House, chain: LocalChain
) -> None:
    shop = await shop_house.start(relayers=(KEY,))
    payer = await Wallet(chain).fund()
    topup_id = await claimed(shop_house, shop, payer)
    await shop.step(topup_id)
    (sent,) = await shop.sent(topup_id)
    bound = sent.gas_limit * sent.max_fee_per_gas
    (before,) = await days_of(shop)
    assert (before.reserved, before.spent) == (bound, 0)
    assert (await payers_gas(shop, payer)).reserved == bound
    await settle_and_count(shop, topup_id)
    await shop.tend()
    found = await receipt(chain.chain, sent.tx_hash)
    assert found is not None
    (gas,) = await gas_of(shop, topup_id)
    assert (gas.outcome, gas.cost) == (GasOutcome.SUCCEEDED, found.cost)
    (day,) = await days_of(shop)
    assert (day.reserved, day.spent, day.wasted) == (0, found.cost, 0)
    mine = await payers_gas(shop, payer)
    assert (mine.reserved, mine.wasted) == (0, 0)


async def test_what_several_count_at_once_is_counted_once(
    shop_house: House, chain: LocalChain
) -> None:
    shop = await shop_house.start(relayers=(KEY,))
    payer = await Wallet(chain).fund()
    topup_id = await claimed(shop_house, shop, payer)
    assert (await shop.settle(topup_id)).state == S.CREDITED
    await asyncio.gather(*[settle_gas(shop.db, shop.rail) for _ in range(5)])
    (gas,) = await gas_of(shop, topup_id)
    (day,) = await days_of(shop)
    assert (day.reserved, day.spent) == (0, gas.cost)
    assert (await payers_gas(shop, payer)).reserved == 0


async def test_a_payer_of_whom_nothing_came_to_nothing_is_never_refused(
    shop_house: House, chain: LocalChain
) -> None:
    """Not even one settlement fits his budget at these fees: he waits for others."""
    shop = await shop_house.start(relayers=(KEY,), gas=GasRules(per_payer=10**9))
    payer = await Wallet(chain).fund()
    topup_id = await claimed(shop_house, shop, payer)
    topup = await shop.step(topup_id, times=3)
    assert (topup.state, topup.reason) == (S.CLAIMED, "waits_for_gas")
    assert await shop.sent(topup_id) == []
    later = await shop_house.restart(relayers=(KEY,))
    assert (await settle_and_count(later, topup_id)).state == S.CREDITED


async def test_who_comes_as_far_as_the_signature_with_nothing_left_is_refused(
    shop_house: House, chain: LocalChain
) -> None:
    """Both were claimed before any of his came to nothing; the door let them pass."""
    shop = await shop_house.start(relayers=(KEY,))
    hostile = await hostile_wallet(chain)
    first, second = [
        await shop.claim(
            (
                (await hostile.authorize(shop_house.pay_to, seconds=seconds))[0],
                b"\x01" * 80,
            )
        )
        for seconds in (60, 600)
    ]
    await shop.step(first, times=2)
    await shop.tend()
    wasted = (await payers_gas(shop, hostile)).wasted
    assert wasted > 0
    await wait(shop_house, 61)
    tight = GasRules(per_payer=wasted + 1)
    later = await shop_house.restart(relayers=(KEY,), gas=tight)
    await later.step(first, times=2)
    topup = await later.until(second, S.REJECTED)
    assert topup.reason == "gas_budget_of_payer"
    assert await later.sent(second) == []


async def test_beyond_the_days_budget_nothing_is_signed_until_midnight(
    shop_house: House, chain: LocalChain
) -> None:
    shop = await shop_house.start(relayers=(KEY,))
    await settle_and_count(shop, await claimed(shop_house, shop))
    waiting = await claimed(shop_house, shop, seconds=DAY_SECONDS)
    (used,) = await days_of(shop)
    # Room for less than another settlement.
    tight = GasRules(per_day=used.spent + 10**10)
    later = await shop_house.restart(relayers=(KEY,), gas=tight)
    with capture_logs() as logs:
        for _ in range(3):
            await later.step(waiting)
            await later.tend()
    assert events(logs).count("relayer_budget_spent") <= 1
    assert KEY.address in later.rail.outlook.over_budget
    assert (await later.topup(waiting)).state == S.CLAIMED
    assert await later.sent(waiting) == []
    assert later.rail.obstacle == "the relayers' gas budget of this day is used up"
    with pytest.raises(TopUpsUnavailable):
        await claimed(shop_house, later)
    await wait(shop_house, seconds_until_midnight(shop_house.clock) + 1)
    raised = await shop_house.restart(
        relayers=(KEY,), gas=GasRules(per_day=used.spent + 10**13)
    )
    assert raised.rail.obstacle is None
    assert (await settle_and_count(raised, waiting)).state == S.CREDITED
    first, second = await days_of(raised)
    assert second.day == first.day + 1
    assert first.spent == used.spent


async def test_the_write_itself_refuses_what_the_last_look_still_allowed(
    shop_house: House, chain: LocalChain
) -> None:
    """What the process remembers of its budget is old; the row count decides."""
    shop = await shop_house.start(relayers=(KEY,), gas=GasRules(per_day=10**13))
    topup_id = await claimed(shop_house, shop)
    await shop.tend()
    assert shop.rail.obstacle is None

    async def spend(session: WriteSession) -> None:
        row = GasDay(
            chain_id=chain.chain_id,
            relayer=KEY.address,
            day=shop_house.clock.now_ms() // 1000 // DAY_SECONDS,
            reserved=0,
            spent=10**13 - 10**10,
            wasted=0,
        )
        session.add(row)

    await shop.db.write(spend)
    with capture_logs() as logs:
        topup = await shop.step(topup_id, times=3)
    assert (topup.state, topup.reason) == (S.CLAIMED, "waits_for_gas")
    assert await shop.sent(topup_id) == []
    assert events(logs).count("relayer_budget_spent") == 1
    assert shop.rail.sequence(KEY).is_known, "no nonce was used up"
    await shop.db.write(_forget_days)


async def _forget_days(session: WriteSession) -> None:
    for row in (await session.exec(select(GasDay))).all():
        await session.delete(row)


@pytest.mark.parametrize(
    ("rules", "payer", "refusal"),
    [
        (GasRules(per_day=7_999), None, DaySpent),
        (GasRules(per_payer=7_999), b"\x77" * 20, PayerSpent),
    ],
    ids=["of the day", "of the payer"],
)
async def test_of_many_writers_of_two_processes_no_more_get_through_than_may(
    shop_house: House,
    chain: LocalChain,
    rules: GasRules,
    payer: bytes | None,
    refusal: type[NoBudget],
) -> None:
    bound = Bound(10, Fees(100, 1))
    shop = await shop_house.start(relayers=(KEY,), gas=rules)
    both = [open_database(shop_house.database_url, shop_house.clock) for _ in range(2)]

    async def reserve(db: Database, number: int) -> bool:
        what = Signed(keccak(text=str(number)), KEY.address, 1000 + number, payer)

        async def work(session: WriteSession) -> None:
            await store_row(session, a_filler(what, chain.chain_id))
            await reserve_first(session, shop.rail, what, bound)

        try:
            await db.write(work)
        except refusal:
            return False
        return True

    tried = [reserve(both[number % 2], number) for number in range(24)]
    assert sum(await asyncio.gather(*tried)) == 7
    (day,) = await days_of(shop)
    assert (day.reserved, day.spent) == (7_000, 0)
    for db in both:
        await db.close()


def a_filler(what: Signed, chain_id: int) -> dict[str, Any]:
    return {
        "tx_hash": what.tx_hash,
        "topup_id": None,
        "chain_id": chain_id,
        "relayer": what.relayer,
        "evm_nonce": what.evm_nonce,
        "attempt": 1,
        "raw": b"\x02",
        "kind": SentKind.FILLER,
        "gas_limit": 10,
        "max_fee_per_gas": 100,
        "max_priority_fee_per_gas": 1,
    }


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
