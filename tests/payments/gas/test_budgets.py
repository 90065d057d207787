"""What gas may cost (A31): by day, by payer, against the value; and what it has cost."""

import asyncio
from typing import Any

import pytest
from eth_utils.crypto import keccak
from sqlmodel import select
from structlog.testing import capture_logs

from tallystick.chain.local import LocalChain
from tallystick.chain.logs import receipt
from tallystick.chain.relay import Fees
from tallystick.kernel.db import Database, WriteSession, open_database
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.gas.budget import (
    Bound,
    DaySpent,
    NoBudget,
    PayerSpent,
    Signed,
    reserve_first,
)
from tallystick.payments.gas.costs import settle_gas
from tallystick.payments.models.gas import GasDay, GasOutcome
from tallystick.payments.models.topups import SentKind
from tallystick.payments.relaying.relayer import store_row
from tallystick.payments.rules.gas import GasRules
from tallystick.x402.errors import PaymentRejected
from tests.house import House, Wallet
from tests.payments.gas.scene import (
    DAY_SECONDS,
    KEY,
    S,
    claimed,
    days_of,
    events,
    gas_of,
    hostile_wallet,
    payers_gas,
    seconds_until_midnight,
    settle_and_count,
    wait,
)


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
