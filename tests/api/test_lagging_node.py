"""A second node that stands still, and one answer of the first that is lost."""

import asyncio

import httpx

from tallystick.chain.fault import ANY, DropBefore, FaultProxy, Stale
from tallystick.chain.local import LocalChain
from tests.api.payments import ON_SQLITE, serve_honest_payer
from tests.live import LiveServer, make_settings, start_server

FAR = 30
"""Blocks; more than the books' final block is behind."""


async def until_seen(live: LiveServer, height: int) -> None:
    async with asyncio.timeout(20):
        while live.gate.rail.outlook.head_number < height:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.05)


async def require_ready(live: LiveServer) -> None:
    async with httpx.AsyncClient(base_url=live.url) as http:
        told = (await http.get("/readyz")).json()
        assert told["takes_payments"], told
        offer = await http.post("/api/credits/add", json={"pack": "pack_5"})
        assert offer.status_code == 402, offer.text


@ON_SQLITE
async def test_purchases_go_on_and_the_server_stays_ready_beside_a_frozen_node(
    database_url: str, slow_chain: LocalChain, free_port: int
) -> None:
    chain = slow_chain
    async with FaultProxy(chain.url) as first, FaultProxy(chain.url) as second:
        urls = (first.url, second.url)
        settings = make_settings(database_url, first.url, free_port, rpc_urls=urls)
        live = await start_server(settings)
        try:
            await chain.mine(2 * FAR)
            await until_seen(live, 2 * FAR)
            await serve_honest_payer(live, chain)
            second.inject(ANY, Stale(blocks=FAR))
            first.inject(ANY, DropBefore(times=1))
            for _ in range(20):
                await asyncio.sleep(0.2)
                await require_ready(live)
            asked = sum(second.seen.values())
            await serve_honest_payer(live, chain)
            assert sum(second.seen.values()) - asked <= 3, "the first is back"
            assert (await live.audit()).findings == []
        finally:
            await live.stop()
