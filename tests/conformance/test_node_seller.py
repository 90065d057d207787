"""A stock seller in JavaScript has its payments settled by this server."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tallystick.chain.local import LocalChain
from tallystick.chain.token import balance_of
from tallystick.x402.keccak import checksum_address
from tests.api.merchants import CENT, Merchant, joined
from tests.api.payments import ON_SQLITE, address_of, count, funded
from tests.conformance.node import calls, program_in
from tests.live import DOLLAR, make_settings, start_server


@pytest.fixture
async def merchant(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[Merchant]:
    settings = make_settings(
        database_url, chain.url, free_port, act_as_facilitator=True
    )
    live = await start_server(settings)
    try:
        yield await joined(live, chain)
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


@asynccontextmanager
async def selling(merchant: Merchant) -> AsyncIterator[str]:
    """The URL of the seller's feature, which costs a cent."""
    node = shutil.which("node")
    assert node is not None
    child = await asyncio.create_subprocess_exec(
        node,
        str(program_in("node").with_name("sell.mjs")),
        f"{merchant.server.url}/x402",
        checksum_address(merchant.pay_to),
        env={**os.environ, "FACILITATOR_KEY": merchant.key},
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(60):
            yield (await child.stdout.readline()).decode().strip()
    finally:
        child.kill()
        await child.wait()


@ON_SQLITE
async def test_a_stock_seller_and_a_stock_buyer_meet_through_our_facilitator(
    merchant: Merchant, chain: LocalChain
) -> None:
    wallet = await funded(chain, 1)
    async with selling(merchant) as url:
        told = await calls(program_in("node"), wallet, url, 2)
    assert [one["status"] for one in told] == [200, 200]
    assert [one["body"] for one in told] == [{"weather": "fine"}] * 2
    assert all(one["payment"]["success"] for one in told)
    assert len({one["payment"]["transaction"] for one in told}) == 2
    assert await merchant.income() == 2 * CENT
    assert await balance_of(chain.chain, address_of(wallet)) == DOLLAR - 2 * CENT
    assert await count(merchant.server, "credit_grant") == 0, "nothing of it is ours"


@ON_SQLITE
async def test_a_buyer_without_money_gets_a_402_from_a_stock_seller(
    merchant: Merchant, chain: LocalChain
) -> None:
    wallet = await funded(chain, 0)
    async with selling(merchant) as url:
        (told,) = await calls(program_in("node"), wallet, url, 1)
    assert told["status"] == 402
    assert await merchant.income() == 0
    assert await count(merchant.server, "merchant_settlement") == 0
