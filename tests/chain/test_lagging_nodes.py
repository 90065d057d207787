"""A node that lags far behind another is left for it, and the first is preferred."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tallystick.chain.errors import BlockNotSeen, RpcUnavailable
from tallystick.chain.fault import (
    ANY,
    Delay,
    DropBefore,
    ErrorAnswer,
    FaultProxy,
    Stale,
)
from tallystick.chain.local import LocalChain
from tallystick.chain.rpc import Chain
from tests.chain.payer import STRANGER

FAR, NEAR = 20, 3
"""Blocks behind, beyond what is usual and within it."""


@pytest.fixture
async def both(
    local: LocalChain, first: FaultProxy, second: FaultProxy
) -> AsyncIterator[Chain]:
    """Two nodes; the first has told how far the chain is."""
    await local.mine(2 * FAR)
    chain = local.open_chain(first.url, second.url, timeout_seconds=1)
    assert await chain.block("latest")
    yield chain
    await chain.close()


async def height_of(chain: Chain) -> int:
    head = await chain.block("latest")
    assert head is not None
    return head.number


async def test_after_one_lost_answer_nothing_is_believed_of_a_node_that_lags(
    local: LocalChain, first: FaultProxy, second: FaultProxy, both: Chain
) -> None:
    second.inject(ANY, Stale(blocks=FAR))
    first.inject("eth_getBalance", DropBefore(times=1))
    with pytest.raises(BlockNotSeen, match=f"{FAR} blocks behind"):
        await both.native_balance(STRANGER)
    assert second.seen["eth_getBalance"] == 0

    assert await both.native_balance(STRANGER), "the first one is asked again"
    assert await height_of(both) == await height_of(local.chain)


async def test_the_first_node_is_asked_again_after_a_while(
    first: FaultProxy, second: FaultProxy, both: Chain
) -> None:
    first.inject(ANY, DropBefore(times=1))
    for _ in range(3):
        await both.native_balance(STRANGER)
    assert second.seen["eth_getBalance"] == 3, "it rests first"
    asked = first.seen["eth_getBalance"]
    async with asyncio.timeout(20):
        while first.seen["eth_getBalance"] == asked:
            await asyncio.sleep(0.05)
            await both.native_balance(STRANGER)
    before = second.seen["eth_getBalance"]
    await both.native_balance(STRANGER)
    assert second.seen["eth_getBalance"] == before


async def test_a_first_node_that_stands_still_is_not_believed_when_it_is_tried_again(
    local: LocalChain, first: FaultProxy, second: FaultProxy, both: Chain
) -> None:
    first.inject(ANY, DropBefore(times=1))
    await both.native_balance(STRANGER)
    first.inject(ANY, Stale(blocks=FAR))
    asked = first.seen["eth_blockNumber"]
    async with asyncio.timeout(20):
        while first.seen["eth_blockNumber"] == asked:
            assert await height_of(both) == await height_of(local.chain)
            await both.native_balance(STRANGER)
            await asyncio.sleep(0.05)
    assert first.seen["eth_getBalance"] == 1, "which was lost"


async def test_a_few_blocks_between_nodes_are_no_lag(
    local: LocalChain, first: FaultProxy, second: FaultProxy, both: Chain
) -> None:
    second.inject(ANY, Stale(blocks=NEAR))
    first.inject(ANY, DropBefore(times=1))
    assert await height_of(both) == await height_of(local.chain) - NEAR


async def test_of_nodes_that_all_went_back_the_highest_is_used(
    local: LocalChain, first: FaultProxy, second: FaultProxy, both: Chain
) -> None:
    """A chain that was taken back, or a test chain that was restarted."""
    first.inject(ANY, DropBefore(times=1))
    top = await height_of(both)
    first.heal()
    first.inject(ANY, Stale(blocks=2 * FAR))
    second.inject(ANY, Stale(blocks=FAR))
    heads = []
    for _ in range(4):
        try:
            heads.append(await height_of(both))
        except BlockNotSeen:
            assert not heads, "once they have told it, it is known"
    assert set(heads) == {top - FAR}


async def test_a_third_node_is_asked_when_one_is_dead_and_one_lags(
    local: LocalChain, first: FaultProxy, second: FaultProxy
) -> None:
    await local.mine(2 * FAR)
    chain = local.open_chain(first.url, second.url, local.url)
    top = await height_of(chain)
    first.inject(ANY, DropBefore())
    second.inject(ANY, Stale(blocks=FAR))
    assert await height_of(chain) == top
    await chain.close()


async def test_a_node_alone_may_go_back_as_far_as_it_wants(
    local: LocalChain, first: FaultProxy
) -> None:
    await local.mine(2 * FAR)
    chain = local.open_chain(first.url)
    top = await height_of(chain)
    first.inject(ANY, Stale(blocks=FAR))
    assert await height_of(chain) == top - FAR
    assert first.seen["eth_blockNumber"] == 0
    await chain.close()


async def test_a_node_that_hangs_holds_up_one_question_and_not_all(
    first: FaultProxy, second: FaultProxy, both: Chain
) -> None:
    first.inject(ANY, Delay(seconds=30))
    await both.native_balance(STRANGER)  # the second answers in the end
    asked, waited = sum(first.seen.values()), []

    async def ask() -> None:
        began = time.monotonic()
        await both.native_balance(STRANGER)
        waited.append(time.monotonic() - began)

    async with asyncio.timeout(20):
        while sum(first.seen.values()) == asked:
            await asyncio.gather(*(ask() for _ in range(5)))
            await asyncio.sleep(0.05)
    assert sum(first.seen.values()) == asked + 1
    assert sum(one > 0.9 for one in waited) == 1


async def test_who_does_not_tell_its_head_is_not_believed(
    first: FaultProxy, second: FaultProxy, both: Chain
) -> None:
    second.inject("eth_blockNumber", ErrorAnswer())
    first.inject("eth_getBalance", DropBefore(times=1))
    with pytest.raises(RpcUnavailable, match="names no block"):
        await both.native_balance(STRANGER)


async def test_who_compares_the_nodes_hears_also_the_one_that_lags(
    second: FaultProxy, both: Chain
) -> None:
    second.inject(ANY, Stale(blocks=FAR))
    heads = [await height_of(one) for one in both.each()]
    assert heads[0] - heads[1] == FAR
