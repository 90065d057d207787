"""The settler: one slow look holds up nobody, and signing holds up nothing."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tallystick.chain.fault import DropBefore, Fault, FaultProxy
from tallystick.chain.faults import Answer, Forward
from tallystick.chain.local import LocalChain
from tallystick.chain.relay import sign_transaction
from tallystick.kernel.db import query
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.relaying import relayer as signing
from tallystick.payments.relaying.nonces import register_relayers
from tallystick.workers.rounds import repeat
from tallystick.workers.settling import settle_for_ever
from tests.house import HOLD_SECONDS, House, Process, Wallet, relayer

S = TopUpState
KEYS = tuple(relayer(number) for number in (1, 2, 3, 4))
SLOW_SECONDS = 4.0
FOR_EVER = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowFor(Fault):
    """The node takes its time with every question about one payer."""

    payer: bytes
    seconds: float

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        if self.payer.hex() in json.dumps(request["params"]):
            await asyncio.sleep(self.seconds)
        return await forward(request)


@asynccontextmanager
async def settling(shop: Process) -> AsyncIterator[None]:
    """The settler at work, and what keeps its keys."""
    # Nobody renewed the leases while the test prepared its top-ups.
    await register_relayers(shop.db, shop.rail)
    leases = repeat(
        "leases", partial(register_relayers, shop.db, shop.rail), every_seconds=1
    )
    work = settle_for_ever(shop.db, shop.rail, hold_seconds=HOLD_SECONDS)
    tasks = [asyncio.create_task(one) for one in (leases, work)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(1200):
        if await is_so():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it never was")


async def claimed(house: House, shop: Process, wallet: Wallet) -> int:
    return await shop.claim(await wallet.authorize(house.pay_to))


async def states(shop: Process, topup_ids: list[int]) -> set[str]:
    return {(await shop.topup(one)).state for one in topup_ids}


async def test_a_slow_look_holds_up_nobody_else(
    any_house: House, local: LocalChain, proxy: FaultProxy
) -> None:
    shop = await any_house.start(proxy.url, relayers=KEYS)
    slow = await Wallet(local).fund()
    held_up = await claimed(any_house, shop, slow)
    proxy.inject("*", SlowFor(payer=slow.address, seconds=FOR_EVER))
    others = [
        await claimed(any_house, shop, await Wallet(local).fund()) for _ in range(3)
    ]
    async with settling(shop):
        for one in others:
            await until(partial(is_paid, shop, one))
        assert await has_state(shop, held_up, S.CLAIMED), "the others did not wait"
        proxy.heal()
        await until(partial(is_paid, shop, held_up))


async def is_paid(shop: Process, topup_id: int) -> bool:
    return (await shop.topup(topup_id)).state == S.CREDITED


async def test_a_backlog_larger_than_a_batch_is_worked_off_without_a_pause(
    house: House, local: LocalChain
) -> None:
    shop = await house.start(relayers=KEYS, poll_seconds=50)
    topup_ids = [
        await claimed(house, shop, await Wallet(local).fund()) for _ in range(35)
    ]

    async def all_signed() -> bool:
        return S.CLAIMED not in await states(shop, topup_ids)

    async with settling(shop), asyncio.timeout(20):
        await until(all_signed)


async def test_what_is_signed_is_looked_at_when_the_chain_has_news(
    house: House, local: LocalChain, proxy: FaultProxy
) -> None:
    """And not over and over in between."""
    shop = await house.start(proxy.url, relayers=KEYS, resend_seconds=600)
    await local.set_automine(on=False)
    topup_id = await claimed(house, shop, await Wallet(local).fund())
    async with settling(shop):
        await until(partial(has_state, shop, topup_id, S.SIGNED))
        await asyncio.sleep(0.5)
        looks = proxy.seen["eth_getLogs"]
        await asyncio.sleep(1)
        assert proxy.seen["eth_getLogs"] == looks
        await local.mine()
        await until(partial(is_paid, shop, topup_id))


async def test_a_lost_broadcast_is_repeated_though_the_chain_has_no_news(
    house: House, local: LocalChain, proxy: FaultProxy
) -> None:
    shop = await house.start(proxy.url, relayers=KEYS, resend_seconds=0.5)
    topup_id = await claimed(house, shop, await Wallet(local).fund())
    proxy.inject("eth_sendRawTransaction", DropBefore(times=1))
    async with settling(shop):
        await until(partial(is_paid, shop, topup_id))


async def has_state(shop: Process, topup_id: int, state: TopUpState) -> bool:
    return (await shop.topup(topup_id)).state == state


async def test_signing_stalls_neither_the_loop_nor_the_database(
    any_house: House, local: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes: it has a thread, and no transaction is open meanwhile."""
    shop = await any_house.start(relayers=KEYS)
    signed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slowly(*values: Any, **more: Any) -> Any:
        loop.call_soon_threadsafe(signed.set)
        time.sleep(SLOW_SECONDS)
        return sign_transaction(*values, **more)

    monkeypatch.setattr(signing, "sign_transaction", slowly)
    topup_id = await claimed(any_house, shop, await Wallet(local).fund())
    longest = 0.0
    async with settling(shop):
        await signed.wait()
        end = time.monotonic() + SLOW_SECONDS * 0.75
        while time.monotonic() < end:
            begun = time.monotonic()
            await shop.db.write(lambda session: query(session, "SELECT 1"))
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - begun)
        assert (await shop.topup(topup_id)).state == S.CLAIMED, "it is being signed"
        await until(partial(is_paid, shop, topup_id))
    assert longest < SLOW_SECONDS / 2
