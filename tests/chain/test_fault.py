"""The proxy is honest until told otherwise, and then fails as told."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable
from tallystick.chain.fault import (
    ANY,
    Delay,
    DropAfter,
    DropBefore,
    ErrorAnswer,
    FaultProxy,
    Rewrite,
    Stale,
)
from tallystick.chain.hexadecimal import quantity
from tallystick.chain.local import LocalChain
from tallystick.chain.rpc import Chain
from tests.chain.payer import STRANGER


@pytest.fixture
async def proxy(local: LocalChain) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(local.url) as found:
        yield found


@pytest.fixture
async def proxied(local: LocalChain, proxy: FaultProxy) -> AsyncIterator[Chain]:
    chain = local.open_chain(proxy.url, timeout_seconds=2)
    yield chain
    await chain.close()


async def mine(chain: Chain) -> None:
    await chain.ask("anvil_mine", ["0x1"], lambda value: value)


async def height(chain: Chain) -> int:
    return await chain.ask("eth_blockNumber", [], quantity)


async def test_without_faults_it_is_the_node(
    local: LocalChain, proxy: FaultProxy, proxied: Chain
) -> None:
    assert await proxied.block("latest") == await local.chain.block("latest")
    assert await proxied.code_at(local.token) == await local.chain.code_at(local.token)
    with pytest.raises(RpcErrorAnswer) as caught:
        await proxied.call(local.token, b"\xff\xff\xff\xff")
    assert caught.value.is_revert
    assert proxy.seen["eth_getCode"] == 1


async def test_dropped_before_has_no_effect_and_dropped_after_has(
    local: LocalChain, proxy: FaultProxy, proxied: Chain
) -> None:
    start = await height(local.chain)
    proxy.inject("anvil_mine", DropBefore(times=1))
    proxy.inject("anvil_mine", DropAfter(times=1))

    with pytest.raises(RpcUnavailable):
        await mine(proxied)
    assert await height(local.chain) == start
    with pytest.raises(RpcUnavailable):
        await mine(proxied)
    assert await height(local.chain) == start + 1
    await mine(proxied)
    assert await height(local.chain) == start + 2


async def test_a_fault_strikes_its_method_only_until_it_is_healed(
    proxy: FaultProxy, proxied: Chain
) -> None:
    proxy.inject("eth_getBalance", ErrorAnswer(message="no"))
    proxy.inject("eth_getCode", Rewrite(change=lambda _: "0x1234"))

    assert await proxied.code_at(STRANGER) == b"\x12\x34"
    with pytest.raises(RpcErrorAnswer):
        await proxied.native_balance(STRANGER)
    proxy.heal("eth_getBalance")
    await proxied.native_balance(STRANGER)
    assert await proxied.code_at(STRANGER) == b"\x12\x34"
    proxy.heal()
    assert await proxied.code_at(STRANGER) == b""


async def test_a_delay_holds_up_its_own_request_only(
    proxy: FaultProxy, proxied: Chain
) -> None:
    await height(proxied)
    proxy.inject("eth_getBalance", Delay(seconds=0.3))
    slow = asyncio.ensure_future(proxied.native_balance(STRANGER))
    await asyncio.sleep(0.05)
    await height(proxied)
    assert not slow.done()
    await slow


async def test_a_probability_is_met_and_repeatable(local: LocalChain) -> None:
    async def failures(seed: int) -> list[bool]:
        async with FaultProxy(local.url, seed=seed) as proxy:
            chain = local.open_chain(proxy.url)
            await height(chain)
            proxy.inject("eth_getBalance", ErrorAnswer(probability=0.3))
            found = []
            for _ in range(100):
                try:
                    await chain.native_balance(STRANGER)
                    found.append(False)
                except RpcErrorAnswer:
                    found.append(True)
            await chain.close()
        return found

    first = await failures(1)
    assert 15 < sum(first) < 45
    assert await failures(1) == first
    assert await failures(2) != first


async def test_down_refuses_and_cuts_and_up_serves_at_the_same_place(
    proxy: FaultProxy, proxied: Chain
) -> None:
    await height(proxied)
    url = proxy.url
    proxy.inject("eth_getBalance", Delay(seconds=30))
    waiting = asyncio.ensure_future(proxied.native_balance(STRANGER))
    await asyncio.sleep(0.05)

    await proxy.down()
    with pytest.raises(RpcUnavailable):
        await waiting
    with pytest.raises(RpcUnavailable):
        await height(proxied)
    await proxy.up()

    assert proxy.url == url
    await height(proxied)


async def test_a_dead_node_behind_it_is_a_cut_connection(proxied: Chain) -> None:
    async with FaultProxy("http://127.0.0.1:9") as proxy:
        chain = Chain([proxy.url], chain_id=1, token=STRANGER)
        with pytest.raises(RpcUnavailable):
            await chain.chain_id()
        await chain.close()


async def test_a_stale_node_knows_nothing_of_later_blocks(
    local: LocalChain, proxy: FaultProxy, proxied: Chain
) -> None:
    await local.mine(5)
    sent = await local.send(STRANGER, local.token[:19] + b"\x01")
    head = await height(local.chain)
    proxy.inject(ANY, Stale(blocks=2))

    assert await height(proxied) == head - 2
    newest = await proxied.block("latest")
    assert newest
    assert newest.number == head - 2
    assert await proxied.block(head) is None
    assert await proxied.block(head - 2)
    assert await proxied.block_by_hash(sent.block_hash) is None
    found = await proxied.ask(
        "eth_getTransactionReceipt", ["0x" + sent.tx_hash.hex()], lambda value: value
    )
    assert found is None


async def test_a_batch_is_answered_item_by_item(
    local: LocalChain, proxy: FaultProxy
) -> None:
    proxy.inject("eth_chainId", ErrorAnswer(code=7, message="no"))
    batch = [
        {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []},
        {"jsonrpc": "2.0", "id": 2, "method": "eth_blockNumber", "params": []},
    ]
    body = json.dumps(batch).encode()
    port = int(proxy.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().split(b"content-length:")[1].split()[0])
    first, second = json.loads(await reader.readexactly(size))
    writer.close()

    assert (first["id"], first["error"]["code"]) == (1, 7)
    assert (second["id"], "result" in second) == (2, True)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n{{{",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
        b"x" * 100_000,
    ],
)
async def test_nonsense_cuts_the_connection_and_nothing_else(
    proxy: FaultProxy, proxied: Chain, request_bytes: bytes
) -> None:
    port = int(proxy.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes)
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 2) == b""
    writer.close()
    await height(proxied)
