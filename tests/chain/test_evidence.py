"""Only what really happened comes out, and nothing that happened is lost."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tallystick.chain import abi, relay
from tallystick.chain.errors import BlockNotSeen, RpcErrorAnswer, RpcUnavailable
from tallystick.chain.evidence import (
    find_cancellations,
    find_settlements,
    transfers_from,
    transfers_in_block,
    transfers_to,
)
from tallystick.chain.fault import (
    ANY,
    DropAfter,
    ErrorAnswer,
    FaultProxy,
    Rewrite,
    Stale,
)
from tallystick.chain.hexadecimal import to_hex
from tallystick.chain.local import LocalChain
from tallystick.chain.relay import Outcome
from tallystick.chain.rpc import Chain
from tests.chain.bytecode import emitting
from tests.chain.payer import (
    DOLLAR,
    PAY_TO,
    STRANGER,
    Payer,
    mined,
    transfer_call,
)

FAKE_TOKEN = bytes.fromhex("fa" * 20)


@pytest.fixture
async def proxy(local: LocalChain) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(local.url) as found:
        yield found


@pytest.fixture
async def proxied(local: LocalChain, proxy: FaultProxy) -> AsyncIterator[Chain]:
    chain = local.open_chain(proxy.url)
    yield chain
    await chain.close()


async def head_of(chain: Chain) -> int:
    block = await chain.block("latest")
    assert block
    return block.number


def used_and_moved(payer: bytes, nonce: bytes, amount: int) -> bytes:
    """A contract that logs exactly what a token does for a captured authorization."""
    return emitting(
        ([abi.AUTHORIZATION_USED, abi.word(payer), nonce], b""),
        ([abi.TRANSFER, abi.word(payer), abi.word(PAY_TO)], abi.word(amount)),
    )


async def test_a_fake_tokens_events_are_not_the_tokens(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    authorization, _ = payer.authorize()
    code = used_and_moved(payer.address, authorization.nonce, 10**12)
    await local.plant(FAKE_TOKEN, code)
    proof = await local.send(STRANGER, FAKE_TOKEN)

    assert len(proof.logs) == 2
    assert await find_settlements(chain, payer.address, authorization.nonce, 0) == []
    assert await transfers_to(chain, PAY_TO, 0, await head_of(chain)) == []


async def test_a_node_that_ignores_the_filter_cannot_pass_off_another_contracts_log(
    local: LocalChain, proxy: FaultProxy, proxied: Chain, payer: Payer
) -> None:
    authorization, _ = payer.authorize()
    code = used_and_moved(payer.address, authorization.nonce, 10**12)
    await local.plant(FAKE_TOKEN, code)
    await local.send(STRANGER, FAKE_TOKEN)
    forged = await local.rpc("eth_getLogs", {"address": to_hex(FAKE_TOKEN)})
    assert len(forged) == 2

    proxy.inject("eth_getLogs", Rewrite(change=lambda _: forged))
    nonce = authorization.nonce
    assert await find_settlements(proxied, payer.address, nonce, 0) == []

    # Nor under the token's name: the receipt shows who wrote it.
    renamed = [{**log, "address": to_hex(local.token)} for log in forged]
    proxy.heal()
    proxy.inject("eth_getLogs", Rewrite(change=lambda _: renamed))
    assert await find_settlements(proxied, payer.address, nonce, 0) == []
    assert await transfers_to(proxied, PAY_TO, 0, await head_of(proxied)) == []


async def test_a_nonce_used_without_a_transfer_is_no_settlement(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    authorization, _ = payer.authorize()
    used = ([abi.AUTHORIZATION_USED, abi.word(payer.address), authorization.nonce], b"")
    moved = [abi.TRANSFER, abi.word(STRANGER), abi.word(PAY_TO)]
    for logs in ([used], [used, (moved, abi.word(DOLLAR))]):
        await local.plant(local.token, emitting(*logs))
        await local.send(STRANGER, local.token)

    assert await find_settlements(chain, payer.address, authorization.nonce, 0) == []


async def test_the_amount_is_the_transfers_whatever_was_signed(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    """A token that takes a fee moves less than the payer signed (A23)."""
    authorization, _ = payer.authorize(10 * DOLLAR)
    code = used_and_moved(payer.address, authorization.nonce, 9_900_000)
    await local.plant(local.token, code)
    await local.send(STRANGER, local.token)

    (settled,) = await find_settlements(chain, payer.address, authorization.nonce, 0)

    assert settled.amount == 9_900_000


async def test_a_reorganised_settlement_vanishes_and_comes_back_when_sent_again(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    payment = payer.authorize()
    before = await head_of(chain)
    signed = await payer.relayed(chain, *payment)
    await relay.broadcast(chain, signed.raw)
    await mined(chain, signed.hash)
    find = (chain, payer.address, payment[0].nonce, before)
    (first,) = await find_settlements(*find)

    await local.reorg(first.block_number)
    assert await find_settlements(*find) == []
    assert await transfers_to(chain, PAY_TO, 0, await head_of(chain)) == []

    await relay.broadcast(chain, signed.raw)
    await mined(chain, signed.hash)
    (second,) = await find_settlements(*find)
    assert (second.tx_hash, second.amount) == (first.tx_hash, first.amount)
    assert second.block_hash != first.block_hash


async def test_a_reorg_with_a_full_pool_leaves_each_transfer_once(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    """Anvil alone would mine the waiting transaction into two canonical blocks."""
    await local.mint(STRANGER, DOLLAR)
    await local.set_automine(on=False)
    await local.submit(payer.address, local.token, transfer_call(PAY_TO, DOLLAR))
    start = await head_of(chain)
    await local.mine()
    await local.submit(STRANGER, local.token, transfer_call(PAY_TO, DOLLAR))

    await local.reorg(start + 1)

    assert (await local.rpc("txpool_status"))["pending"] == "0x0"
    assert await transfers_to(chain, PAY_TO, 0, await head_of(chain)) == []
    await local.set_automine(on=True)
    await local.send(payer.address, local.token, transfer_call(PAY_TO, DOLLAR))
    (found,) = await transfers_to(chain, PAY_TO, 0, await head_of(chain))
    assert found.payer == payer.address


Lie = Callable[[Any], Any]


def _with(**fields: Any) -> Lie:
    return lambda result: {**result, **fields}


@pytest.mark.parametrize(
    ("method", "lie"),
    [
        ("eth_getTransactionReceipt", _with(status="0x0")),
        ("eth_getTransactionReceipt", _with(logs=[])),
        ("eth_getBlockByNumber", _with(hash="0x" + "ab" * 32)),
    ],
    ids=["reverted", "not in the receipt", "never canonical"],
)
async def test_a_log_that_its_receipt_or_block_contradicts_is_a_ghost(
    proxy: FaultProxy, proxied: Chain, payer: Payer, method: str, lie: Lie
) -> None:
    payment = payer.authorize()
    await payer.settle(proxied, *payment)
    head = await head_of(proxied)

    proxy.inject(method, Rewrite(change=lie))

    assert await find_settlements(proxied, payer.address, payment[0].nonce, 0) == []
    assert await transfers_to(proxied, PAY_TO, 0, head) == []


async def test_a_receipt_from_another_block_than_the_log_makes_it_a_ghost(
    proxy: FaultProxy, proxied: Chain, payer: Payer
) -> None:
    """Anvil and flashblocks have both shown one transaction in two blocks (A18)."""
    payment = payer.authorize()
    await payer.settle(proxied, *payment)
    other = "0x" + "cd" * 32

    def moved(receipt: dict[str, Any]) -> dict[str, Any]:
        logs = [{**log, "blockHash": other} for log in receipt["logs"]]
        return {**receipt, "blockHash": other, "logs": logs}

    proxy.inject("eth_getTransactionReceipt", Rewrite(change=moved))

    assert await find_settlements(proxied, payer.address, payment[0].nonce, 0) == []


@pytest.mark.parametrize(
    "change",
    [
        _with(address=to_hex(FAKE_TOKEN)),
        lambda log: {**log, "topics": ["0x" + "dd" * 32, *log["topics"][1:]]},
        lambda log: {**log, "topics": log["topics"][:2]},
        _with(logIndex="0x7"),
        _with(data="0x"),
    ],
    ids=["another token", "another event", "no payee", "further on", "no amount"],
)
async def test_only_the_tokens_transfer_at_the_next_index_is_the_payment(
    proxy: FaultProxy, proxied: Chain, payer: Payer, change: Lie
) -> None:
    payment = payer.authorize()
    await payer.settle(proxied, *payment)

    def lie(receipt: dict[str, Any]) -> dict[str, Any]:
        used, moved = receipt["logs"]
        return {**receipt, "logs": [used, change(moved)]}

    proxy.inject("eth_getTransactionReceipt", Rewrite(change=lie))

    assert await find_settlements(proxied, payer.address, payment[0].nonce, 0) == []


async def test_a_transfer_behind_another_payers_authorization_has_no_nonce(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    used = ([abi.AUTHORIZATION_USED, abi.word(STRANGER), b"\x07" * 32], b"")
    moved = [abi.TRANSFER, abi.word(payer.address), abi.word(PAY_TO)]
    await local.plant(local.token, emitting(used, (moved, abi.word(DOLLAR))))
    await local.send(STRANGER, local.token)

    (transfer,) = await transfers_to(chain, PAY_TO, 0, await head_of(chain))

    assert transfer.nonce is None


@pytest.mark.parametrize("lost", ["the receipt", "its logs"])
async def test_the_receipt_of_another_transaction_is_no_answer(
    proxy: FaultProxy, proxied: Chain, payer: Payer, lost: str
) -> None:
    payment = payer.authorize()
    await payer.settle(proxied, *payment)
    other = {"transactionHash": "0x" + "ee" * 32}

    def lie(receipt: dict[str, Any]) -> dict[str, Any]:
        if lost == "the receipt":
            return {**receipt, **other}
        return {**receipt, "logs": [{**log, **other} for log in receipt["logs"]]}

    proxy.inject("eth_getTransactionReceipt", Rewrite(change=lie))

    with pytest.raises(RpcUnavailable):
        await find_settlements(proxied, payer.address, payment[0].nonce, 0)


async def test_a_log_without_a_receipt_yet_is_unknown_and_not_left_out(
    proxy: FaultProxy, proxied: Chain, payer: Payer
) -> None:
    payment = payer.authorize()
    await payer.settle(proxied, *payment)
    head = await head_of(proxied)

    proxy.inject("eth_getTransactionReceipt", Rewrite(change=lambda _: None))

    with pytest.raises(BlockNotSeen):
        await find_settlements(proxied, payer.address, payment[0].nonce, 0)
    with pytest.raises(BlockNotSeen):
        await transfers_to(proxied, PAY_TO, 0, head)


async def test_logs_that_the_node_took_back_do_not_count(
    proxy: FaultProxy, proxied: Chain, payer: Payer
) -> None:
    payment = payer.authorize()
    await payer.settle(proxied, *payment)

    def taken_back(logs: list[Any]) -> list[Any]:
        return [{**log, "removed": True} for log in logs]

    proxy.inject("eth_getLogs", Rewrite(change=taken_back))

    assert await find_settlements(proxied, payer.address, payment[0].nonce, 0) == []


async def test_a_reply_lost_after_broadcast_is_found_on_chain(
    proxy: FaultProxy, proxied: Chain, payer: Payer
) -> None:
    authorization, signature = payer.authorize()
    signed = await payer.relayed(proxied, authorization, signature)
    proxy.inject("eth_sendRawTransaction", DropAfter(times=1))

    with pytest.raises(RpcUnavailable):
        await relay.broadcast(proxied, signed.raw)
    again = await relay.broadcast(proxied, signed.raw)

    assert again.outcome in (Outcome.ALREADY_KNOWN, Outcome.NONCE_TOO_LOW)
    await mined(proxied, signed.hash)
    (settled,) = await find_settlements(proxied, payer.address, authorization.nonce, 0)
    assert settled.tx_hash == signed.hash


async def test_a_stale_node_is_unknown_and_never_an_empty_answer(
    local: LocalChain, proxy: FaultProxy, proxied: Chain, payer: Payer
) -> None:
    payment = payer.authorize()
    settled = await payer.settle(proxied, *payment)
    await local.mine(3)
    proxy.inject(ANY, Stale(blocks=20))

    assert await find_settlements(proxied, payer.address, payment[0].nonce, 0) == []
    with pytest.raises(BlockNotSeen):
        await transfers_to(proxied, PAY_TO, 0, settled.block_number)

    proxy.heal()
    assert len(await transfers_to(proxied, PAY_TO, 0, settled.block_number)) == 1


async def test_transfers_tell_payments_by_signature_from_plain_ones(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    authorization, signature = payer.authorize(2 * DOLLAR)
    settled = await payer.settle(chain, authorization, signature)
    plain = transfer_call(PAY_TO, DOLLAR)
    await local.send(payer.address, local.token, plain)
    await local.send(payer.address, local.token, transfer_call(STRANGER, DOLLAR))
    await local.send(payer.address, local.token, transfer_call(PAY_TO, 0))
    head = await head_of(chain)

    first, second = await transfers_to(chain, PAY_TO, 0, head)

    assert dataclasses.asdict(first) == dataclasses.asdict(settled)
    assert (second.payer, second.amount, second.nonce) == (payer.address, DOLLAR, None)
    out = await transfers_from(chain, payer.address, 0, head)
    assert [item.pay_to for item in out] == [PAY_TO, PAY_TO, STRANGER]
    only = await transfers_in_block(chain, second.block_hash, pay_to=PAY_TO)
    assert only == [second]


async def test_logs_of_an_unknown_block_fail_loudly(chain: Chain) -> None:
    with pytest.raises(BlockNotSeen):
        await transfers_in_block(chain, b"\x11" * 32, pay_to=PAY_TO)


@pytest.mark.parametrize("narrowest", [1, 3, 1000])
async def test_a_hosts_limits_on_ranges_and_results_lose_nothing(
    local: LocalChain,
    payer: Payer,
    narrowest: int,
) -> None:
    for _ in range(4):
        await local.send(payer.address, local.token, transfer_call(PAY_TO, DOLLAR))
        await local.mine(6)
    head = await head_of(local.chain)

    class LimitedProxy(FaultProxy):
        async def _answer_one(self, request: dict[str, Any]) -> dict[str, Any]:
            if request["method"] == "eth_getLogs":
                bounds = request["params"][0]
                width = int(bounds["toBlock"], 16) - int(bounds["fromBlock"], 16) + 1
                if width > narrowest:
                    error = {"code": -32005, "message": "query returned too much"}
                    return {"jsonrpc": "2.0", "id": request["id"], "error": error}
            return await super()._answer_one(request)

    async with LimitedProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url)
        found = await transfers_to(chain, PAY_TO, 0, head)
        await chain.close()

    assert [transfer.amount for transfer in found] == [DOLLAR] * 4
    assert len({transfer.block_number for transfer in found}) == 4


async def test_a_node_that_refuses_even_one_block_is_an_error_and_not_silence(
    proxy: FaultProxy, proxied: Chain
) -> None:
    proxy.inject("eth_getLogs", ErrorAnswer(code=-32601, message="no such method"))

    with pytest.raises(RpcErrorAnswer):
        await transfers_to(proxied, PAY_TO, 0, await head_of(proxied))
    with pytest.raises(RpcErrorAnswer):
        await find_cancellations(proxied, STRANGER, b"\x01" * 32, 0)
