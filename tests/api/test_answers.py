"""What every answer keeps: no cache, headers for browsers, problems with a next step."""

import importlib
import pkgutil

import httpx
import pytest
from eth_account import Account

import tallystick
from tallystick.kernel.errors import TallystickError, known_errors
from tests.api.callers import bearer, customer_key, give
from tests.api.payments import ON_SQLITE, count, decode, offer_of, refusal_of, sign
from tests.live import LiveServer

ECHO = "/features/echo?text=answers"
ORIGIN = {"Origin": "https://shop.example"}
NO_STORE = "no-store, private"
EXPOSED = {
    "payment-required",
    "payment-response",
    "x-payment-response",
    "credits-charged",
    "credits-remaining",
    "idempotency-replayed",
    "location",
    "retry-after",
    "content-disposition",
}


@pytest.fixture
async def key(shop_server: LiveServer) -> str:
    return await customer_key(shop_server, Account.create(), 10)


@ON_SQLITE
async def test_what_is_paid_or_asks_for_payment_stays_out_of_every_cache(
    shop: httpx.AsyncClient, shop_server: LiveServer, key: str
) -> None:
    wallet = Account.create()
    await give(shop_server, wallet, 5)
    waived = sign(wallet, await offer_of(shop, ECHO))
    for expected, headers in (
        (402, {}),
        (200, bearer(key)),
        (200, waived.headers),
        (200, waived.headers),  # the stored answer
        (401, bearer("tk_nonsense")),
        (400, {"PAYMENT-SIGNATURE": "nonsense"}),
    ):
        answer = await shop.get(ECHO, headers=headers)
        assert answer.status_code == expected
        assert answer.headers["cache-control"] == NO_STORE
        assert "*" in answer.headers["vary"]
    for path in ("/api/credits", "/api/credits/transactions", "/api/keys"):
        answer = await shop.get(path, headers=bearer(key))
        assert answer.headers["cache-control"] == NO_STORE


@ON_SQLITE
async def test_a_page_of_another_site_may_read_the_payment_headers(
    shop: httpx.AsyncClient, key: str
) -> None:
    for headers in ({}, bearer(key)):
        answer = await shop.get(ECHO, headers=headers | ORIGIN)
        assert answer.headers["access-control-allow-origin"] == "*"
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert {one.strip() for one in exposed.split(",")} >= EXPOSED
        # No cookie plays a part, so no page acts in its visitor's name.
        assert "access-control-allow-credentials" not in answer.headers


@ON_SQLITE
async def test_a_page_of_another_site_may_send_the_payment_headers(
    shop: httpx.AsyncClient,
) -> None:
    wanted = "payment-signature, x-payment, sign-in-with-x, authorization, prefer"
    answer = await shop.options(
        "/api/credits/add",
        headers=ORIGIN
        | {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": wanted + ", idempotency-key",
        },
    )
    assert answer.status_code == 200
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert set(wanted.split(", ")) <= {one.strip() for one in allowed.split(",")}


@ON_SQLITE
async def test_one_402_speaks_both_versions_and_tells_the_shortage(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    answer = await shop.get(ECHO)
    assert refusal_of(answer) == (402, "payment_required")
    v1, v2 = answer.json(), decode(answer.headers["PAYMENT-REQUIRED"])
    assert (v1["x402Version"], v2["x402Version"]) == (1, 2)
    # Version 2 clients take the first entry and have a cap of $1, version 1 of $0.10.
    assert [one["amount"] for one in v2["accepts"]] == ["1000000", "100000"]
    assert [one["maxAmountRequired"] for one in v1["accepts"]] == ["100000", "1000000"]
    assert {one["network"] for one in v1["accepts"]} == {"base-sepolia"}
    assert {one["network"] for one in v2["accepts"]} == {"eip155:84532"}
    assert (v1["credits"], v1["required"], v1["shortfall"]) == (0, 1, 1)
    assert v1["topup_url"] == f"{shop_server.settings.public_url}/api/credits/add"
    assert [one["id"] for one in v1["packs"]] == ["pack_5"]
    assert len(answer.headers["PAYMENT-REQUIRED"]) < 6000


@ON_SQLITE
async def test_an_anonymous_402_writes_nothing(
    shop: httpx.AsyncClient, shop_server: LiveServer
) -> None:
    """Whoever asks for prices a million times fills no disk."""
    tables = ("customer", "wallet", "claim", "topup", "stored_answer", "used_nonce")
    for _ in range(5):
        await shop.get(ECHO)
        await shop.post("/api/credits/add", json={"pack": "pack_5"})
        await shop.post("/api/credits/deduct", json={"feature": "echo"})
        await shop.get("/api/credits")
    assert {table: await count(shop_server, table) for table in tables} == (
        dict.fromkeys(tables, 0)
    )


@ON_SQLITE
async def test_nothing_of_the_frameworks_own_errors_shows(
    shop: httpx.AsyncClient, key: str
) -> None:
    for method, path, expected in (
        ("GET", "/nothing", 404),
        ("PATCH", "/api/credits", 405),
        ("GET", "/api/credits/transactions?limit=x", 422),
        ("GET", "/features/broken?how=rock", 500),
    ):
        answer = await shop.request(method, path, headers=bearer(key))
        assert refusal_of(answer)[0] == expected
        assert "Traceback" not in answer.text
        assert "FallenRock" not in answer.text


def test_every_error_that_a_caller_may_see_says_what_to_do() -> None:
    for module in pkgutil.walk_packages(tallystick.__path__, "tallystick."):
        if ".migrations." not in module.name:
            importlib.import_module(module.name)
    errors = known_errors()
    assert len(errors) > 20
    silent = [code for code, one in errors.items() if _is_silent(one)]
    assert silent == []


def _is_silent(error: type[TallystickError]) -> bool:
    # The roots are raised by nobody, and the demo has no callers.
    elsewhere = ("tallystick.kernel.errors", "tallystick.demo")
    is_seen = not error.__module__.startswith(elsewhere)
    return is_seen and not (error.next_step and error.title)


@ON_SQLITE
async def test_the_openapi_document_can_be_read(
    shop: httpx.AsyncClient,
) -> None:
    document = (await shop.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.")
    for path in (
        "/api/catalog",
        "/api/credits",
        "/api/credits/add",
        "/api/credits/topups/{topup_id}",
        "/api/credits/deduct",
        "/api/credits/transactions",
        "/api/keys",
        "/livez",
        "/readyz",
        "/healthz/chain",
        "/metrics",
    ):
        assert path in document["paths"]


@ON_SQLITE
async def test_the_price_list_needs_nobody(shop: httpx.AsyncClient) -> None:
    prices = (await shop.get("/api/catalog")).json()
    assert {one["slug"] for one in prices["features"]} >= {"echo", "gift", "words"}
    quote = await shop.post(
        "/api/catalog/quote", json={"feature": "words", "quantity": 10}
    )
    assert quote.status_code == 200
    assert "2.5" in quote.text


@ON_SQLITE
async def test_nobody_is_sent_on_to_the_address_in_the_host_header(
    shop: httpx.AsyncClient,
) -> None:
    """A redirect would take keys and payments along."""
    answer = await shop.get("/features/echo/", headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert answer.json()["code"] == "unknown_route"
