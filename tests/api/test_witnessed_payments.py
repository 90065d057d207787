"""What a payer is told whose payment only one provider has shown so far."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from tallystick.chain.errors import WrongChain
from tallystick.chain.fault import ANY, DropBefore, FaultProxy, Rewrite
from tallystick.chain.local import LocalChain
from tallystick.running import preflight
from tests.api.payments import (
    ON_SQLITE,
    Payment,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.live import LiveServer, make_settings, start_server

ADD = "/api/credits/add"
LARGE = {"amount": 5}


@pytest.fixture
async def witness(chain: LocalChain) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(chain.url) as proxy:
        yield proxy


@pytest.fixture
async def server(
    database_url: str, chain: LocalChain, free_port: int, witness: FaultProxy
) -> AsyncIterator[LiveServer]:
    settings = make_settings(
        database_url,
        chain.url,
        free_port,
        settle_wait=1,
        witness_rpc_urls=(witness.url,),
        witness_above=5,
    )
    live = await start_server(settings)
    yield live
    assert (await live.audit()).findings == []
    await live.stop()


@pytest.fixture
async def http(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


async def test_a_large_payment_is_pending_until_the_second_provider_shows_it(
    http: httpx.AsyncClient, chain: LocalChain, witness: FaultProxy
) -> None:
    wallet = await funded(chain)
    payment = sign(wallet, await offer_of(http, ADD, method="POST", json=LARGE))
    witness.inject(ANY, DropBefore())
    waits = await http.post(ADD, json=LARGE, headers=payment.headers)
    assert waits.status_code == 202, waits.text
    state = (await http.get(waits.headers["location"])).json()
    assert state["reason"] == "waits_for_a_witness"
    witness.heal()
    paid = await decided(http, payment, LARGE)
    assert paid.json()["added"] == 50


async def test_a_contradiction_is_under_review_and_small_payments_go_on(
    http: httpx.AsyncClient, chain: LocalChain, witness: FaultProxy
) -> None:
    witness.inject("eth_chainId", Rewrite(change=lambda _: "0x1"))
    wallet = await funded(chain)
    payment = sign(wallet, await offer_of(http, ADD, method="POST", json=LARGE))
    answer = await decided(http, payment, LARGE)
    for _ in range(2):
        assert refusal_of(answer) == (409, "payment_under_review")
        answer = await http.post(ADD, json=LARGE, headers=payment.headers)
    small = {"amount": 2}
    payment = sign(wallet, await offer_of(http, ADD, method="POST", json=small))
    paid = await decided(http, payment, small)
    assert paid.json()["added"] == 20


async def decided(
    http: httpx.AsyncClient, payment: Payment, body: dict[str, int]
) -> httpx.Response:
    """A busy machine may need longer than the server waits."""
    async with asyncio.timeout(30):
        while True:
            answer = await http.post(ADD, json=body, headers=payment.headers)
            if answer.status_code != 202:
                return answer
            await asyncio.sleep(0.1)


@ON_SQLITE
async def test_a_server_does_not_start_with_a_witness_of_another_chain(
    database_url: str, chain: LocalChain, free_port: int, witness: FaultProxy
) -> None:
    """It would put every large payment into quarantine; one that is down does not."""
    urls = (witness.url,)
    settings = make_settings(database_url, chain.url, free_port, witness_rpc_urls=urls)
    await preflight(settings)
    witness.inject("eth_chainId", Rewrite(change=lambda _: "0x1"))
    with pytest.raises(WrongChain):
        await preflight(settings)
    witness.heal()
    await witness.down()
    await preflight(settings)
