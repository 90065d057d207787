"""Servers under attack: whoever pays is served all the same, and the books balance."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tests.api.payments import funded, serve_honest_payer
from tests.api.sellers import SHOP, Seller, seller_at
from tests.api.shop import CATALOG
from tests.live import LiveServer, make_settings, start_server


@pytest.fixture
async def attacked(server: LiveServer, chain: LocalChain) -> AsyncIterator[LiveServer]:
    """A server that must still serve an honest payer when the attack is over."""
    yield server
    server.clock.offset_ms = 0  # honest people live in the present
    await serve_honest_payer(server, chain)


@pytest.fixture
async def http(attacked: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client that pays nothing by itself."""
    async with httpx.AsyncClient(base_url=attacked.url, timeout=60) as client:
        yield client


@pytest.fixture
async def wallet(chain: LocalChain) -> LocalAccount:
    """A wallet with $100 on the automining chain."""
    return await funded(chain)


@pytest.fixture
async def slow_server(
    database_url: str, slow_chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    """A server on a chain with a block every second; its audit must pass.

    It waits long for a settlement: whoever runs the tests may be busy with others.
    """
    live = await start_server(
        make_settings(database_url, slow_chain.url, free_port, settle_wait=80)
    )
    try:
        yield live
        await serve_honest_payer(live, slow_chain)
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


@pytest.fixture
async def slow_http(slow_server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client for fifty requests at once."""
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(
        base_url=slow_server.url, timeout=100, limits=limits
    ) as client:
        yield client


@pytest.fixture
async def shop_server(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    """A server with the tests' own catalog and holds of five seconds."""
    live = await start_server(
        make_settings(
            database_url, chain.url, free_port, catalog=CATALOG, hold_seconds=5
        )
    )
    try:
        yield live
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


@pytest.fixture
async def shop(shop_server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the tests' shop that pays nothing by itself."""
    async with httpx.AsyncClient(base_url=shop_server.url, timeout=60) as client:
        yield client


@pytest.fixture
async def seller(
    sqlite_template: Path, tmp_path: Path, chain: LocalChain, free_port: int
) -> AsyncIterator[Seller]:
    path = tmp_path / "tallystick.sqlite3"
    shutil.copy(sqlite_template, path)
    url = f"sqlite+aiosqlite:///{path}"
    live = await start_server(
        make_settings(url, chain.url, free_port, catalog=str(SHOP))
    )
    one = await seller_at(live)
    yield one
    await one.http.aclose()
    assert (await live.audit()).findings == []
    await live.stop()


@pytest.fixture
async def everywhere(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[Seller]:
    """The same on each kind of database, with features that we run ourselves."""
    live = await start_server(make_settings(database_url, chain.url, free_port))
    one = await seller_at(live)
    yield one
    await one.http.aclose()
    assert (await live.audit()).findings == []
    await live.stop()
