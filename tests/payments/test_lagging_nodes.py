"""Payments go on beside a node that stands still, as long as another one does not."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.fault import ANY, DropBefore, FaultProxy, Stale
from tallystick.chain.local import LocalChain
from tallystick.kernel.errors import Unavailable
from tallystick.payments.errors import BooksOfAnotherChain
from tallystick.payments.models.topups import TopUpState
from tests.house import House, Process, Wallet

FAR = 40


@dataclass(frozen=True)
class Pair:
    """A process with two nodes whose books have blocks that are final."""

    first: FaultProxy
    second: FaultProxy
    shop: Process


@pytest.fixture
async def pair(house: House, local: LocalChain) -> AsyncIterator[Pair]:
    async with FaultProxy(local.url) as first, FaultProxy(local.url) as second:
        shop = await house.start(first.url, second.url)
        await local.mine(FAR + 10)
        await shop.observe()
        yield Pair(first, second, shop)


async def work(shop: Process) -> int:
    """One round of everything; how often it failed."""
    failed = 0
    for one in (shop.settle_due, shop.observe, shop.tend):
        try:
            await one()
        except Unavailable:
            failed += 1
    return failed


@pytest.mark.parametrize("behind", [5, FAR])
async def test_one_lost_answer_beside_a_node_that_stands_still_stops_no_payment(
    house: House, local: LocalChain, wallet: Wallet, pair: Pair, behind: int
) -> None:
    shop = pair.shop
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    await shop.step(topup_id)
    await local.mine(2)
    pair.second.inject(ANY, Stale(blocks=behind))
    pair.first.inject(ANY, DropBefore(times=1))
    failed = 0
    for _ in range(6):
        failed += await work(shop)
        await local.mine()
        house.clock.advance(1)
    assert (await shop.topup(topup_id)).state == TopUpState.CREDITED
    assert failed <= 1, "the lost answer's own"
    assert shop.rail.obstacle is None
    later = await shop.claim(await wallet.authorize(house.pay_to))
    assert (await shop.settle(later)).state == TopUpState.CREDITED


async def test_a_server_starts_by_the_second_node_when_the_first_stands_still(
    house: House, wallet: Wallet, pair: Pair
) -> None:
    pair.first.inject(ANY, Stale(blocks=FAR))
    later = await house.restart(pair.first.url, pair.second.url)
    await later.observe()
    assert later.rail.obstacle is None
    topup = await later.claim(await wallet.authorize(house.pay_to))
    assert (await later.settle(topup)).state == TopUpState.CREDITED


async def test_while_a_node_is_silent_one_that_lags_says_nothing_of_the_books(
    house: House, pair: Pair
) -> None:
    """Also to a process that has seen nothing of the chain yet."""
    await pair.first.down()
    pair.second.inject(ANY, Stale(blocks=FAR))
    with pytest.raises(RpcUnavailable):
        await pair.shop.observe()
    assert pair.shop.rail.obstacle is None
    with pytest.raises(RpcUnavailable):
        await house.restart(pair.first.url, pair.second.url)


async def test_books_whose_final_block_no_node_has_are_another_chains(
    house: House, pair: Pair
) -> None:
    for one in (pair.first, pair.second):
        one.inject(ANY, Stale(blocks=FAR))
    with pytest.raises(BooksOfAnotherChain, match="the chain ends at block"):
        await house.restart(pair.first.url, pair.second.url)
    for one in (pair.first, pair.second):
        one.heal()
    later = await house.restart(pair.first.url, pair.second.url)
    assert later.rail.obstacle is None


@pytest.mark.parametrize("is_longer", [False, True], ids=["shorter", "longer"])
async def test_a_node_of_another_chain_is_not_asked_while_one_of_ours_answers(
    house: House, wallet: Wallet, local: LocalChain, pair: Pair, *, is_longer: bool
) -> None:
    async with LocalChain() as other, FaultProxy(other.url) as strange:
        # First of all: two that begin in the same second would have the same blocks.
        await Wallet(other).fund()
        head = await local.chain.block("latest")
        assert head is not None
        await other.mine(head.number + FAR if is_longer else 1)
        later = await house.restart(strange.url, pair.second.url)
        asked = sum(strange.seen.values())
        await later.observe()
        topup = await later.claim(await wallet.authorize(house.pay_to))
        assert (await later.settle(topup)).state == TopUpState.CREDITED
        assert later.rail.obstacle is None
        assert not is_longer or sum(strange.seen.values()) == asked
        await pair.second.down()
        # What is only shorter may be ours, and behind; what differs is not.
        with pytest.raises(BooksOfAnotherChain if is_longer else RpcUnavailable):
            await later.observe()
        assert (later.rail.obstacle is None) == (not is_longer)
