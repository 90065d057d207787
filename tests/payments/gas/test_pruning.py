"""What is forgotten of merchants' settlements and of gas, and what never is."""

import pytest
from sqlalchemy import insert, update
from sqlmodel import col, select

from tallystick.kernel.db import WriteSession, query
from tallystick.payments.gas.costs import settle_gas
from tallystick.payments.merchants.errors import SettlementsUnavailable
from tallystick.payments.models.gas import GasDay, PayerGas
from tallystick.payments.models.merchants import MerchantSettlement, SettlementState
from tallystick.payments.pruning import prune_payer_gas, prune_settlements
from tallystick.payments.rules.gas import day_at
from tallystick.workers.upkeep import prune
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.wire import Authorization
from tests.house import DOLLAR, House, Process, Wallet, relayer
from tests.payments.gas.scene import (
    DAY_SECONDS,
    KEY,
    S,
    claimed,
    hostile_wallet,
    payers_gas,
    settle_and_count,
)
from tests.payments.merchants import Shop, look, until_known

Of = SettlementState
Signed = tuple[Authorization, bytes]


async def opened(house: House, **more: object) -> tuple[Process, Shop, Wallet]:
    process = await house.start(relayers=(KEY,), **more)
    wallet = await Wallet(house.local).fund()
    return process, await Shop.opened(house, process), wallet


async def final(process: Process, shop: Shop, wallet: Wallet) -> Signed:
    """A settlement in a final block; what it cost is still to be counted."""
    signed = await wallet.authorize(shop.pay_to)
    one = await shop.claim(process, signed)
    await until_known(process, one.id)
    await shop.house.local.mine(4)
    assert (await look(process, one.id)).state == Of.FINAL
    return signed


async def pass_days(house: House, process: Process, days: int) -> None:
    """For us and for the chain."""
    house.clock.advance(days * DAY_SECONDS)
    await house.local.advance(days * DAY_SECONDS)
    await house.local.mine(4)
    await process.keep_keys()


async def another_key_spends_today(process: Process) -> None:
    async def work(session: WriteSession) -> None:
        day = day_at(process.db.clock.now_ms())
        row = {"chain_id": process.rail.domain.chain_id, "day": day}
        nothing = {"reserved": 0, "spent": 0, "wasted": 0}
        other = relayer(5).address
        await session.exec(insert(GasDay).values(relayer=other, **row, **nothing))

    await process.db.write(work)


async def count(process: Process, table: str) -> int:
    async with process.db.read() as session:
        sql = f"SELECT COUNT(*) AS found FROM {table}"  # our own words
        return int((await query(session, sql))[0]["found"])


async def settlements(process: Process) -> list[MerchantSettlement]:
    async with process.db.read() as session:
        ordered = select(MerchantSettlement).order_by(col(MerchantSettlement.id))
        return list((await session.exec(ordered)).all())


async def payers(process: Process) -> list[bytes]:
    async with process.db.read() as session:
        return [bytes(one) for one in await session.exec(select(PayerGas.payer))]


async def test_what_is_over_for_good_is_forgotten_and_is_not_settled_again(
    shop_house: House,
) -> None:
    process, shop, wallet = await opened(shop_house)
    old = [await final(process, shop, wallet) for _ in range(3)]
    await settle_gas(process.db, process.rail)
    await pass_days(shop_house, process, 31)
    assert await prune_settlements(process.db, process.rail) == 0, "their days count"
    await final(process, shop, wallet)
    await settle_gas(process.db, process.rail)
    days = await count(process, "gas_day WHERE spent > 0")
    assert await prune_settlements(process.db, process.rail) == 3
    for table in ("merchant_settlement", "relayed_transaction", "relayed_gas"):
        assert await count(process, table) == 1, table
    assert await count(process, "gas_day WHERE spent > 0") == days == 2
    for signed in old:
        with pytest.raises(PaymentRejected) as refused:
            await shop.claim(process, signed)
        assert refused.value.reason == reasons.VALID_BEFORE
    assert (await process.audit()).findings == []
    await process.let_go()
    successor = await shop_house.restart(relayers=(KEY,))
    await final(successor, shop, wallet)
    assert await shop.income() == 5 * DOLLAR, "each of five was settled once"


async def test_nothing_is_forgotten_before_a_final_block_is_later_than_its_window(
    shop_house: House,
) -> None:
    """By our clock alone the token would still take the authorization."""
    process, shop, wallet = await opened(shop_house)
    one = await shop.claim(process, await wallet.authorize(shop.pay_to, 100 * DOLLAR))
    await wallet.send(b"\x0e" * 20, DOLLAR)
    assert (await look(process, one.id)).state == Of.REJECTED
    shop_house.clock.advance(31 * DAY_SECONDS)
    assert await prune_settlements(process.db, process.rail) == 0
    await shop_house.local.advance(31 * DAY_SECONDS)
    assert await prune_settlements(process.db, process.rail) == 0, "not final yet"
    await shop_house.local.mine(4)
    assert await prune_settlements(process.db, process.rail) == 1


async def test_one_that_was_refused_and_is_asked_for_anew_is_kept(
    shop_house: House,
) -> None:
    """Its row is old, and its window is not."""
    process, shop, wallet = await opened(shop_house)
    nonce = b"\x07" * 32
    signed = await wallet.authorize(shop.pay_to, 100 * DOLLAR, nonce=nonce)
    one = await shop.claim(process, signed)
    await wallet.send(b"\x0e" * 20, DOLLAR)
    assert (await look(process, one.id)).state == Of.REJECTED
    await pass_days(shop_house, process, 31)
    again = await wallet.authorize(shop.pay_to, DOLLAR, nonce=nonce)
    assert (await shop.claim(process, again)).id == one.id
    assert await prune_settlements(process.db, process.rail) == 0
    await process.db.write(lambda session: _put(session, one.id, Of.REJECTED))
    assert await prune_settlements(process.db, process.rail) == 0


async def _put(session: WriteSession, one: int, state: SettlementState) -> None:
    await session.exec(
        update(MerchantSettlement)
        .where(col(MerchantSettlement.id) == one)
        .values(state=state)
    )


async def test_what_is_open_or_doubtful_or_a_keys_last_is_kept(
    shop_house: House,
) -> None:
    process, shop, wallet = await opened(shop_house)
    for _ in range(3):
        await final(process, shop, wallet)
    doubtful, ended, last = [one.id for one in await settlements(process)]
    await process.db.write(lambda session: _put(session, doubtful, Of.QUARANTINE))
    await pass_days(shop_house, process, 31)
    await another_key_spends_today(process)
    young = await shop.claim(process, await wallet.authorize(shop.pay_to))
    assert await prune_settlements(process.db, process.rail) == 0, "gas is open"
    await settle_gas(process.db, process.rail)
    await prune(process.db, process.rail)
    with pytest.raises(SettlementsUnavailable):
        await look(process, ended)
    kept = [one.id for one in await settlements(process)]
    assert kept == [doubtful, last, young.id]


async def test_what_came_to_nothing_long_ago_is_forgotten_and_todays_counts(
    shop_house: House,
) -> None:
    process, shop, wallet = await opened(shop_house)
    paid = await claimed(shop_house, process, wallet)
    assert (await settle_and_count(process, paid)).state == S.CREDITED
    await final(process, shop, wallet)
    await pass_days(shop_house, process, 31)
    hostile = await hostile_wallet(shop_house.local)
    attack = await hostile.authorize(shop_house.pay_to)
    topup = await process.claim((attack[0], b"\x01" * 80))
    for _ in range(6):
        await process.step(topup)
        await shop_house.local.mine()
        await process.observe()
    await another_key_spends_today(process)
    assert await prune_payer_gas(process.db, process.rail) == 0, "one is still open"
    await process.tend()
    assert set(await payers(process)) == {wallet.address, hostile.address}
    before = await payers_gas(process, hostile)
    assert before.wasted > 0
    assert await prune_payer_gas(process.db, process.rail) == 1
    assert await payers(process) == [hostile.address]
    assert await payers_gas(process, hostile) == before
    assert (await process.audit()).findings == []
