"""The chain cannot be asked: no payment begins, and credits are spent all the same."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.fault import ANY, Delay, ErrorAnswer, Fault, FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.payments import rail
from tests.api.callers import bearer, issue
from tests.api.payments import (
    ON_SQLITE,
    books,
    buy,
    count,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.api.shop import CATALOG
from tests.live import LiveServer, make_settings, start_server

pytestmark = ON_SQLITE
ECHO = "/features/echo?text=outage"
ADD = "/api/credits/add"
DEDUCT = "/api/credits/deduct"


@pytest.fixture
async def node(chain: LocalChain) -> AsyncIterator[FaultProxy]:
    """What the server takes for its node."""
    async with FaultProxy(chain.url) as proxy:
        yield proxy


@pytest.fixture
async def server(
    database_url: str, chain: LocalChain, node: FaultProxy, free_port: int
) -> AsyncIterator[LiveServer]:
    """A server that sells what needs no chain, behind a node that may fail."""
    settings = make_settings(database_url, node.url, free_port, catalog=CATALOG)
    live = await start_server(settings)
    try:
        yield live
        node.heal()
        await node.up()
        honest = await funded(chain, 1)
        async with httpx.AsyncClient(base_url=live.url, timeout=60) as client:
            payment = sign(honest, await offer_of(client, ECHO))
            served = await client.get(ECHO, headers=payment.headers)
        assert served.status_code == 200, served.text
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


@pytest.fixture
async def http(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
async def customer(http: httpx.AsyncClient, wallet: LocalAccount) -> LocalAccount:
    """A wallet with fifty credits."""
    await buy(http, wallet)
    return wallet


DEAD = None
FAULTS: dict[str, Fault | None] = {
    "dead": DEAD,
    "in trouble": ErrorAnswer(message="internal error"),
    "over its limits": ErrorAnswer(code=429, message="rate limit exceeded"),
}


async def fail(node: FaultProxy, fault: Fault | None) -> None:
    if fault is DEAD:
        await node.down()
    else:
        node.inject(ANY, fault)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_payment_is_refused_before_anything_is_claimed(
    http: httpx.AsyncClient,
    server: LiveServer,
    node: FaultProxy,
    wallet: LocalAccount,
    fault: Fault | None,
) -> None:
    wanted: list[tuple[str, str, Any]] = [
        ("GET", ECHO, None),
        ("POST", DEDUCT, {"feature": "echo"}),
        ("POST", ADD, {"pack": "pack_5"}),
    ]
    await fail(node, fault)
    before = await books(server)
    payments = []
    for method, path, body in wanted:
        for version in (1, 2):
            # The offer itself needs no chain.
            entry = await offer_of(
                http, path, method=method, json=body, version=version
            )
            payment = sign(wallet, entry)
            answer = await http.request(
                method, path, json=body, headers=payment.headers
            )
            assert answer.status_code == 503
            assert refusal_of(answer)[1] in ("rpc_unavailable", "rpc_error_answer")
            assert int(answer.headers["retry-after"]) > 0
            payments.append((method, path, body, payment))
    assert await books(server) == before
    assert (await http.get("/healthz/chain")).status_code == 503
    node.heal()
    await node.up()
    # The very same header is taken once the node is back.
    method, path, body, payment = payments[-1]
    answer = await http.request(method, path, json=body, headers=payment.headers)
    assert answer.status_code == 200, answer.text


async def test_credits_are_spent_while_the_node_is_dead(
    http: httpx.AsyncClient,
    server: LiveServer,
    node: FaultProxy,
    customer: LocalAccount,
) -> None:
    key = await issue(server, customer)
    await node.down()
    left = []
    for version in (1, 2):
        payment = sign(customer, await offer_of(http, ECHO, version=version))
        waived = await http.get(ECHO, headers=payment.headers)
        assert waived.status_code == 200, waived.text
        left.append(waived.headers["credits-remaining"])
    by_key = await http.get(ECHO, headers=bearer(key))
    left.append(by_key.headers["credits-remaining"])
    deducted = await http.post(DEDUCT, json={"feature": "echo"}, headers=bearer(key))
    left.append(deducted.headers["credits-remaining"])
    assert left == ["49", "48", "47", "46"]
    assert (await http.get("/api/credits", headers=bearer(key))).status_code == 200
    for path, expected in (("/livez", 200), ("/readyz", 200), ("/healthz/chain", 503)):
        assert (await http.get(path)).status_code == expected
    assert await count(server, "claim", "state = 'waived'") == 2


async def test_a_node_that_is_gone_or_hangs_is_told_without_asking_it(
    http: httpx.AsyncClient, node: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The limit is 15 seconds; nobody wants to wait that long, twice.
    monkeypatch.setattr(rail, "SILENCE_SECONDS", 3.0)

    async def ready(*, takes_payments: bool) -> dict[str, Any]:
        async with asyncio.timeout(30):
            while True:
                told: dict[str, Any] = (await http.get("/readyz")).json()
                assert told["ready"] is True
                if told["takes_payments"] is takes_payments:
                    return told
                await asyncio.sleep(0.2)

    assert "reason" not in await ready(takes_payments=True)
    for hangs in (False, True):
        await fail(node, Delay(seconds=60) if hangs else DEAD)
        told = await ready(takes_payments=False)
        assert told["reason"].startswith("the chain has not answered for ")
        began, asked = time.monotonic(), node.seen.total()
        for _ in range(20):
            await http.get("/readyz")
        assert time.monotonic() - began < 2
        # Twenty answers, and no question but a worker's own.
        assert node.seen.total() - asked < 10
        node.heal()
        await node.up()
        assert "reason" not in await ready(takes_payments=True)


async def test_a_short_wallet_is_told_so_while_the_node_is_dead(
    http: httpx.AsyncClient,
    server: LiveServer,
    node: FaultProxy,
    customer: LocalAccount,
) -> None:
    """A 402 needs no chain; only the payment that follows does."""
    key = await issue(server, customer)
    await node.down()
    dear = "/features/words?words=" + ",".join(map(str, range(300)))
    answer = await http.get(dear, headers=bearer(key))
    assert refusal_of(answer) == (402, "insufficient_credits")
    assert answer.json()["shortfall"] == 25


async def test_a_node_that_hangs_slows_nobody_who_has_credits(
    http: httpx.AsyncClient,
    server: LiveServer,
    node: FaultProxy,
    customer: LocalAccount,
    chain: LocalChain,
) -> None:
    stranger = await funded(chain)
    node.inject(ANY, Delay(seconds=60))
    pending = sign(stranger, await offer_of(http, ECHO))
    began = time.monotonic()
    for _ in range(5):
        payment = sign(customer, await offer_of(http, ECHO))
        assert (await http.get(ECHO, headers=payment.headers)).status_code == 200
    assert time.monotonic() - began < 4
    refused = await http.get(ECHO, headers=pending.headers)
    assert refusal_of(refused) == (503, "rpc_unavailable")
    assert time.monotonic() - began < 15
    assert await count(server, "claim", "state <> 'waived'") == 1
    await node.down()  # the requests that hang there end
