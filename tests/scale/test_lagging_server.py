"""Why docs/scaling.md lets only some reads lag.

A whole server is made to read from a standby that lags. Its books stay right; but what it
says of what it has just written is wrong, and a revoked key goes on spending.
"""

from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tests.api.callers import bearer, give, issue
from tests.api.payments import funded
from tests.api.shop import CATALOG
from tests.live import Buyer, LiveServer, make_settings, start_server
from tests.scale.replicated import Replicated

DEDUCT = "/api/credits/deduct"
ADD = "/api/credits/add"
TWO = {"feature": "echo", "quantity": 2}


@pytest.fixture
async def wallet(punctual: LocalChain) -> LocalAccount:
    return await funded(punctual)


@pytest.fixture
async def lagging(
    replicated: Replicated, punctual: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    """Its requests read from the standby, its workers from the primary."""
    url = replicated.primary_url
    live = await start_server(
        make_settings(url, punctual.url, free_port, catalog=CATALOG)
    )
    split = replicated.open(live.clock)
    await split.start()
    workers = live.gate
    state = live.app.state
    state.tallystick = replace(state.tallystick, gate=replace(workers, db=split))
    try:
        yield live
        await replicated.catch_up()
        state.tallystick = replace(state.tallystick, gate=workers)
        assert (await live.audit()).findings == []
    finally:
        await live.stop()
        await split.close()


@pytest.fixture
async def key(lagging: LiveServer, replicated: Replicated, wallet: LocalAccount) -> str:
    """The key of a customer with ten credits, of which the standby knows."""
    await give(lagging, wallet, 10)
    await replicated.catch_up()
    made = await issue(lagging, wallet)
    await replicated.catch_up()
    return made


@pytest.fixture
async def http(lagging: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=lagging.url, timeout=60) as client:
        yield client


async def test_a_retry_is_the_same_request_though_the_standby_knows_of_none(
    http: httpx.AsyncClient, replicated: Replicated, key: str
) -> None:
    """The answer is found by the transaction that would charge."""
    await replicated.fall_behind()
    headers = bearer(key) | {"Idempotency-Key": "one"}
    first = await http.post(DEDUCT, json=TWO, headers=headers)
    again = await http.post(DEDUCT, json=TWO, headers=headers)
    assert first.json() == again.json()
    assert first.json()["credits"] == 8
    assert again.headers["idempotency-replayed"] == "true"
    shown = await http.get("/api/credits", headers=bearer(key))
    assert shown.json()["available"] == 10


async def test_keys_and_prices_must_not_be_read_from_a_standby(
    http: httpx.AsyncClient, replicated: Replicated, key: str
) -> None:
    await replicated.fall_behind()
    wanted = {"name": "new", "scopes": ["read", "spend"]}
    made = await http.post("/api/keys", json=wanted, headers=bearer(key))
    unknown = await http.get("/api/credits", headers=bearer(made.json()["secret"]))
    assert unknown.status_code == 401, "a new key does not work yet"
    await replicated.catch_up()
    await replicated.fall_behind()
    url = f"/api/keys/{made.json()['id']}"
    assert (await http.delete(url, headers=bearer(key))).status_code == 204
    revoked = bearer(made.json()["secret"])
    spent = await http.post(DEDUCT, json=TWO | {"quantity": 10}, headers=revoked)
    assert spent.status_code == 200, "a revoked key goes on spending"
    short = await http.post(DEDUCT, json=TWO, headers=bearer(key))
    told = short.json()
    assert short.status_code == 402
    assert (told["credits"], told["shortfall"]) == (10, 0), "a price of nothing"


async def test_a_purchase_must_not_be_read_from_a_standby(
    http: httpx.AsyncClient,
    lagging: LiveServer,
    replicated: Replicated,
    wallet: LocalAccount,
) -> None:
    """The buyer is told of no such top-up, and has paid; his retry finds it."""
    await replicated.fall_behind()
    offer = await http.post(ADD, json={"amount": 1})
    url = f"{lagging.url}{ADD}"
    payment = await Buyer(wallet).pay(offer.headers, url)
    lost = await http.post(ADD, json={"amount": 1}, headers=payment)
    assert (lost.status_code, lost.json()["code"]) == (404, "unknown_top_up")
    await replicated.catch_up()
    found = await http.post(ADD, json={"amount": 1}, headers=payment)
    assert (found.status_code, found.json()["added"]) == (200, 10)
