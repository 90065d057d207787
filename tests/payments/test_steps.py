"""Blocks that may still be replaced are read one by one and written together."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel import func, select

from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.fault import Fault, FaultProxy
from tallystick.chain.faults import Answer, Forward
from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.payments.models.chain import RecentBlock
from tallystick.payments.observing.following import cursor_of
from tests.house import DOLLAR, House, Process, Wallet

BLOCKS = 40


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    """Nothing on it is ever final."""
    async with LocalChain(slots_in_an_epoch=1_000) as local:
        yield local


@pytest.fixture
async def proxy(chain: LocalChain) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(chain.url) as one:
        yield one


@pytest.fixture
async def shop(
    chain: LocalChain, proxy: FaultProxy, database_url: str, clock: OffsetClock
) -> AsyncIterator[Process]:
    """Forty blocks wait for it, three of them with a payment."""
    house = House(chain, database_url, None, clock)
    process = await house.start(proxy.url)
    await process.observe()
    wallet = await Wallet(chain).fund()
    for _ in range(3):
        await wallet.send(house.pay_to, DOLLAR)
        await chain.mine(BLOCKS // 3)
    yield process
    assert (await process.audit()).findings == []
    await house.stop()


async def known(shop: Process) -> tuple[int, int]:
    """Where the observer stands, and how many hashes it knows."""
    async with shop.db.read() as session:
        count = (
            await session.exec(select(func.count()).select_from(RecentBlock))
        ).one()
    return (await cursor_of(shop.db, shop.rail)).block_number, count


async def test_a_look_after_an_outage_knows_every_block_that_it_missed(
    shop: Process, chain: LocalChain
) -> None:
    before, hashes = await known(shop)
    assert await shop.observe() == 3
    head = await chain.chain.block("latest")
    assert head is not None
    assert await known(shop) == (head.number, hashes + head.number - before)
    assert head.number - before > BLOCKS


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen(Fault):
    """Does not have the block of one height."""

    number: int

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        if request["params"][0] == hex(self.number):
            return {"result": None}
        return await forward(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign(Unseen):
    """Shows another branch's block at that height."""

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        answer = await forward(request)
        if request["params"][0] == hex(self.number):
            answer["result"]["parentHash"] = "0x" + "11" * 32
        return answer


async def test_what_was_read_before_a_node_failed_stays_read(
    shop: Process, proxy: FaultProxy
) -> None:
    begin, _ = await known(shop)
    proxy.inject("eth_getBlockByNumber", Unseen(number=begin + 21))
    with pytest.raises(RpcUnavailable):
        await shop.observe()
    assert (await known(shop))[0] == begin + 20
    proxy.heal()
    await shop.observe()
    assert (await known(shop))[0] > begin + BLOCKS


async def test_a_block_that_does_not_follow_ends_the_look_before_it(
    shop: Process, proxy: FaultProxy
) -> None:
    begin, _ = await known(shop)
    proxy.inject("eth_getBlockByNumber", Foreign(number=begin + 21))
    await shop.observe()
    assert (await known(shop))[0] == begin + 20
    proxy.heal()
    await shop.observe()
    assert (await known(shop))[0] > begin + BLOCKS
