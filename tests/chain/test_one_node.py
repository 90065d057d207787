"""Answers that must fit together come from one node, not from whoever is current."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tallystick.chain.errors import BlockNotSeen, RpcUnavailable
from tallystick.chain.evidence import find_settlements, transfers_in_block, transfers_to
from tallystick.chain.fault import ANY, DropBefore, FaultProxy, Rewrite, Stale
from tallystick.chain.local import LocalChain
from tallystick.chain.rpc import Chain
from tests.chain.payer import PAY_TO, Payer


@pytest.fixture
async def both(
    local: LocalChain, first: FaultProxy, second: FaultProxy
) -> AsyncIterator[Chain]:
    """Two nodes, the first of which is current."""
    chain = local.open_chain(first.url, second.url)
    assert await chain.block("latest")
    yield chain
    await chain.close()


async def test_a_node_that_lags_does_not_complete_what_another_has_begun(
    local: LocalChain, first: FaultProxy, second: FaultProxy, both: Chain, payer: Payer
) -> None:
    """The first tells how far it has come, and fails before it gives the logs."""
    settled = await payer.settle(payer.local.chain, *payer.authorize())
    await local.mine(3)
    first.inject("eth_getLogs", DropBefore())
    second.inject(ANY, Stale(blocks=20))

    with pytest.raises(BlockNotSeen):
        await transfers_to(both, PAY_TO, 0, settled.block_number)

    second.heal()
    assert len(await transfers_to(both, PAY_TO, 0, settled.block_number)) == 1


async def test_all_is_asked_anew_of_the_next_node(
    first: FaultProxy, second: FaultProxy, both: Chain, payer: Payer
) -> None:
    payment = payer.authorize()
    settled = await payer.settle(payer.local.chain, *payment)
    first.inject("eth_getTransactionReceipt", DropBefore())

    found = await transfers_to(both, PAY_TO, 0, settled.block_number)

    assert [one.tx_hash for one in found] == [settled.tx_hash]
    # The head, the logs, the receipt and the block: none of them taken over.
    assert second.seen["eth_getLogs"] == 1
    assert second.seen["eth_getBlockByNumber"] == 2
    found = await find_settlements(both, payer.address, payment[0].nonce, 0)
    assert len(found) == 1, "and it stays with the node that answers"
    assert first.seen["eth_getLogs"] == 1


async def test_a_node_that_lags_is_left_for_one_that_knows_and_need_not_prove_itself(
    first: FaultProxy, second: FaultProxy, both: Chain, payer: Payer
) -> None:
    settled = await payer.settle(payer.local.chain, *payer.authorize())
    asked = first.seen["eth_chainId"]
    first.inject(ANY, Stale(blocks=20))
    for _ in range(2):
        assert await transfers_to(both, PAY_TO, 0, settled.block_number)
    first.heal()
    second.inject(ANY, Stale(blocks=20))
    assert await transfers_to(both, PAY_TO, 0, settled.block_number)
    assert first.seen["eth_chainId"] == asked


async def test_of_two_that_fail_the_last_reason_is_told(
    first: FaultProxy, second: FaultProxy, both: Chain
) -> None:
    for one in (first, second):
        one.inject("eth_getLogs", DropBefore())
    with pytest.raises(RpcUnavailable, match="eth_getLogs"):
        await transfers_to(both, PAY_TO, 0, 1)
    assert (first.seen["eth_getLogs"], second.seen["eth_getLogs"]) == (1, 1)


async def test_a_block_that_was_replaced_while_it_was_read_is_not_done_with(
    first: FaultProxy, both: Chain, payer: Payer, second: FaultProxy
) -> None:
    """The chain may come back to it, and nobody would read it again."""
    settled = await payer.settle(payer.local.chain, *payer.authorize())
    for one in (first, second):
        one.inject("eth_getBlockByNumber", Rewrite(change=_another))
    with pytest.raises(BlockNotSeen):
        await transfers_in_block(both, settled.block_hash, pay_to=PAY_TO)


def _another(block: Any) -> Any:
    return block and {**block, "hash": "0x" + "77" * 32}
