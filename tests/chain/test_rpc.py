"""Three outcomes that are never mixed up: an answer, an error answer, no answer."""

import asyncio
import gc
import json
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tallystick.chain.endpoint import ANSWER_LIMIT_BYTES
from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable, WrongChain
from tallystick.chain.fault import (
    ANY,
    Delay,
    DropBefore,
    ErrorAnswer,
    FaultProxy,
    Rewrite,
)
from tallystick.chain.hexadecimal import quantity
from tallystick.chain.local import LocalChain
from tallystick.chain.rpc import Chain
from tests.chain.payer import RELAYER, STRANGER

NOWHERE = "http://127.0.0.1:9/secret-key-in-the-path"
TOKEN = b"\x01" * 20


@pytest.fixture
async def proxy(local: LocalChain) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(local.url) as found:
        yield found


@pytest.fixture
async def proxied(local: LocalChain, proxy: FaultProxy) -> AsyncIterator[Chain]:
    chain = local.open_chain(proxy.url, timeout_seconds=0.5)
    yield chain
    await chain.close()


async def raw_node(body: bytes, status: str = "200 OK") -> tuple[asyncio.Server, str]:
    """A server that gives every request the same HTTP answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def ask_raw(body: bytes, status: str = "200 OK") -> int:
    server, url = await raw_node(body, status)
    chain = Chain([url], chain_id=1, token=TOKEN, timeout_seconds=2)
    try:
        return await chain.chain_id()
    finally:
        await chain.close()
        server.close()


async def test_blocks_are_linked_and_the_future_is_unknown(
    local: LocalChain, chain: Chain
) -> None:
    await local.mine(3)
    newest = await chain.block("latest")
    assert newest
    before = await chain.block(newest.number - 1)
    assert before

    assert newest.parent_hash == before.hash
    assert newest.timestamp_seconds >= before.timestamp_seconds
    assert await chain.block_by_hash(newest.hash) == newest
    assert await chain.block(newest.number + 1) is None
    assert await chain.block_by_hash(b"\x22" * 32) is None
    finalized, safe = await chain.block("finalized"), await chain.block("safe")
    assert finalized
    assert safe
    assert (newest.number - safe.number, newest.number - finalized.number) == (1, 2)


async def test_a_node_without_finality_says_unknown(
    proxy: FaultProxy, proxied: Chain
) -> None:
    await proxied.block("latest")
    proxy.inject(
        "eth_getBlockByNumber",
        ErrorAnswer(code=-39001, message="Unknown block", times=1),
    )
    assert await proxied.block("finalized") is None

    proxy.inject("eth_getBlockByNumber", Rewrite(change=lambda _: None, times=1))
    assert await proxied.block("finalized") is None


async def test_another_block_than_asked_for_is_no_answer(
    proxy: FaultProxy, proxied: Chain
) -> None:
    proxy.inject(
        "eth_getBlockByNumber", Rewrite(change=lambda block: {**block, "number": "0x7"})
    )
    with pytest.raises(RpcUnavailable):
        await proxied.block(0)


async def test_addresses_have_code_ether_and_nonces(
    local: LocalChain, chain: Chain
) -> None:
    await local.give_gas(STRANGER, 12345)

    assert await chain.code_at(local.token)
    assert await chain.code_at(STRANGER) == b""
    assert await chain.native_balance(STRANGER) == 12345
    assert await chain.nonce(RELAYER, "latest") == 0
    await local.set_automine(on=False)
    await local.submit(RELAYER, STRANGER)
    assert await chain.nonce(RELAYER, "latest") == 0
    assert await chain.nonce(RELAYER, "pending") == 1


async def test_a_dead_node_is_unavailable_and_its_url_stays_secret() -> None:
    chain = Chain([NOWHERE], chain_id=1, token=TOKEN)
    with pytest.raises(RpcUnavailable) as caught:
        await chain.block("latest")
    await chain.close()

    error = caught.value
    assert (error.status, error.code) == (503, "rpc_unavailable")
    assert error.retry_after_seconds
    assert "secret" not in error.detail
    assert "127.0.0.1" not in error.detail
    assert error.for_operator == {"node": "127.0.0.1"}


async def test_the_next_node_answers_when_one_is_dead(local: LocalChain) -> None:
    chain = local.open_chain(NOWHERE, local.url)
    assert await chain.block("latest")
    await chain.close()


async def test_a_node_that_comes_back_serves_again(
    proxy: FaultProxy, proxied: Chain
) -> None:
    assert await proxied.block("latest")
    await proxy.down()
    with pytest.raises(RpcUnavailable):
        await proxied.block("latest")
    await proxy.up()
    assert await proxied.block("latest")


async def test_one_failure_moves_on_and_nothing_is_repeated_at_the_same_node(
    local: LocalChain, proxy: FaultProxy
) -> None:
    async with FaultProxy(local.url) as second:
        chain = local.open_chain(proxy.url, second.url)
        await chain.native_balance(STRANGER)
        proxy.inject(ANY, DropBefore())

        await chain.native_balance(STRANGER)
        await chain.native_balance(STRANGER)
        await chain.close()

    assert proxy.seen["eth_getBalance"] == 2
    assert second.seen["eth_getBalance"] == 2
    assert (proxy.seen["eth_chainId"], second.seen["eth_chainId"]) == (1, 1)


async def test_a_single_node_is_asked_once(proxy: FaultProxy, proxied: Chain) -> None:
    proxy.inject("eth_getBalance", DropBefore())
    with pytest.raises(RpcUnavailable):
        await proxied.native_balance(STRANGER)
    assert proxy.seen["eth_getBalance"] == 1


async def test_nothing_is_cached(proxy: FaultProxy, proxied: Chain) -> None:
    for _ in range(3):
        await proxied.block(0)
        await proxied.chain_id()
    assert proxy.seen["eth_getBlockByNumber"] == 3
    assert proxy.seen["eth_chainId"] == 3 + 1


async def test_a_slow_node_is_given_up(proxy: FaultProxy, proxied: Chain) -> None:
    proxy.inject("eth_getBalance", Delay(seconds=30))
    began = time.monotonic()
    with pytest.raises(RpcUnavailable):
        await proxied.native_balance(STRANGER)
    assert time.monotonic() - began < 5


async def test_a_node_of_another_chain_is_never_believed(local: LocalChain) -> None:
    chain = Chain([local.url], chain_id=8453, token=local.token)
    with pytest.raises(WrongChain):
        await chain.block("latest")
    assert await chain.chain_id() == 84532
    await chain.close()


async def test_a_url_that_leads_to_another_chain_after_a_failure_is_noticed(
    proxy: FaultProxy, proxied: Chain
) -> None:
    assert await proxied.block("latest")
    proxy.inject("eth_getBalance", DropBefore(times=1))
    with pytest.raises(RpcUnavailable):
        await proxied.native_balance(STRANGER)

    proxy.inject("eth_chainId", Rewrite(change=lambda _: "0x1"))
    with pytest.raises(WrongChain):
        await proxied.native_balance(STRANGER)


async def test_an_error_answer_is_an_answer(proxy: FaultProxy, proxied: Chain) -> None:
    proxy.inject("eth_getBalance", ErrorAnswer(code=-32000, message="private words"))
    with pytest.raises(RpcErrorAnswer) as caught:
        await proxied.native_balance(STRANGER)

    error = caught.value
    assert (error.error_code, error.text, error.is_revert) == (
        -32000,
        "private words",
        False,
    )
    assert "private words" not in error.detail


@pytest.mark.parametrize(
    "message",
    ["Too Many Requests", "over rate limit", "no backend is currently healthy"],
)
async def test_a_node_too_busy_to_serve_gave_no_answer(
    local: LocalChain, proxy: FaultProxy, message: str
) -> None:
    proxy.inject("eth_getBalance", ErrorAnswer(code=-32005, message=message))
    chain = local.open_chain(proxy.url, local.url)
    assert await chain.native_balance(RELAYER)  # from the other one
    await chain.close()


async def test_a_contract_cannot_talk_us_off_a_node(
    proxy: FaultProxy, proxied: Chain
) -> None:
    words = "execution reverted: rate limit"
    proxy.inject("eth_call", ErrorAnswer(code=3, message=words))
    with pytest.raises(RpcErrorAnswer) as caught:
        await proxied.call(STRANGER, b"")
    assert caught.value.is_revert


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>not found</html>",
        b"[]",
        b"7",
        b"{}",
        b'{"jsonrpc":"2.0","id":0}',
        b'{"jsonrpc":"2.0","id":99,"result":"0x1"}',
        b'{"jsonrpc":"2.0","id":0,"result":"0x"}',
        b'{"jsonrpc":"2.0","id":0,"result":1}',
        b'{"jsonrpc":"2.0","id":0,"result":null}',
        b'{"jsonrpc":"2.0","id":0,"result":"0x 1"}',
        b'{"jsonrpc":"2.0","id":0,"error":"no"}',
        b'{"jsonrpc":"2.0","id":0,"error":{"message":"no code"}}',
        b'{"jsonrpc":"2.0","id":0,"error":{"code":1,"message":"transaction not found"}}',
        b'{"jsonrpc":"2.0","id":0,"result":' + b"[" * 100_000,
        b'{"jsonrpc":"2.0","id":0,"result":' + b"1" * 5_000 + b"}",
        b'{"jsonrpc":"2.0","id":0,"result":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"jsonrpc":"2.0","id":' + b"[" * 900 + b"]" * 900 + b"}",
        b"\xff\xfe",
    ],
)
async def test_garbage_is_no_answer(body: bytes) -> None:
    with pytest.raises(RpcUnavailable):
        await ask_raw(body)


async def test_a_null_error_beside_a_result_is_forgiven() -> None:
    assert await ask_raw(b'{"jsonrpc":"2.0","id":0,"error":null,"result":"0x5"}') == 5


@pytest.mark.parametrize("status", ["429 Slow", "500 Oops", "503 Gone", "302 Found"])
async def test_an_http_failure_is_no_answer(status: str) -> None:
    with pytest.raises(RpcUnavailable):
        await ask_raw(b'{"jsonrpc":"2.0","id":0,"result":"0x1"}', status)


@pytest.mark.parametrize("status", ["429 Slow", "500 Oops", "503 Gone"])
async def test_a_busy_or_broken_hosts_error_is_no_answer_either(status: str) -> None:
    body = b'{"jsonrpc":"2.0","id":0,"error":{"code":-32000,"message":"sorry"}}'
    with pytest.raises(RpcUnavailable):
        await ask_raw(body, status)


async def test_a_redirect_is_not_followed(local: LocalChain) -> None:
    with pytest.raises(RpcUnavailable):
        await ask_raw(b"", f"307 Elsewhere\r\nLocation: {local.url}")


@pytest.mark.parametrize("status", ["400 Bad", "200 OK"])
async def test_a_hosts_reason_is_read_whatever_its_http_status(status: str) -> None:
    error = {"code": -32602, "message": "block range too wide"}
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "error": error}).encode()
    with pytest.raises(RpcErrorAnswer) as caught:
        await ask_raw(body, status)
    assert caught.value.text == "block range too wide"


async def test_an_endless_answer_is_cut_off() -> None:
    with pytest.raises(RpcErrorAnswer):
        await ask_raw(b" " * (ANSWER_LIMIT_BYTES + 1))
    with pytest.raises(RpcErrorAnswer):
        await ask_raw(b"too much", "413 Too Large")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0x1234", b"\x12\x34"),
        ("Reverted 0x1234", b"\x12\x34"),
        ({"data": "0x1234"}, b"\x12\x34"),
        ("0x123", b""),
        (None, b""),
        ([1], b""),
    ],
)
async def test_revert_data_is_found_where_nodes_put_it(
    value: Any, expected: bytes
) -> None:
    error = {"code": 3, "message": "execution reverted", "data": value}
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "error": error}).encode()
    with pytest.raises(RpcErrorAnswer) as caught:
        await ask_raw(body)
    assert caught.value.revert_data == expected


async def test_closing_leaves_no_connection_behind(local: LocalChain) -> None:
    async def used(then: Callable[[Chain], Awaitable[None]]) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            chain = local.open_chain()
            await chain.ask("eth_chainId", [], quantity)
            await then(chain)
            del chain
            gc.collect()
        return [str(item.message) for item in caught]

    async def forget(chain: Chain) -> None:
        pass

    assert await used(Chain.close) == []
    assert any("nclosed" in text for text in await used(forget))


async def test_a_closed_chain_can_be_closed_again_and_used_again(
    local: LocalChain,
) -> None:
    chain = local.open_chain()
    await chain.close()
    assert await chain.chain_id() == 84532
    await chain.close()
    await chain.close()


def test_a_chain_needs_a_node_and_an_address() -> None:
    with pytest.raises(ValueError, match="RPC URL"):
        Chain([], chain_id=1, token=TOKEN)
    with pytest.raises(ValueError, match="20 bytes"):
        Chain([NOWHERE], chain_id=1, token=b"")
