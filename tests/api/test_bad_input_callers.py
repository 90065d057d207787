"""Callers who are nobody, two at once, or not the ones who pay (A47, A48)."""

import secrets
import zlib
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tallystick.identity.keys import Scope
from tests.api.callers import bearer, give, issue
from tests.api.payments import (
    ANALYST,
    ON_SQLITE,
    books,
    buy,
    count,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.live import LiveServer

pytestmark = ON_SQLITE
INVALID_KEY = (401, "invalid_key")
TWO = (400, "two_identities")
DEDUCT = ("POST", "/api/credits/deduct", {"feature": "ai_analyst"})
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", ANALYST, None),
    DEDUCT,
    ("GET", "/api/credits", None),
    ("GET", "/api/credits/transactions", None),
    ("POST", "/api/credits/add", {"pack": "pack_5"}),
    ("GET", "/api/keys", None),
    ("POST", "/api/keys", {}),
    ("GET", "/features/risk_score?token=0x" + "11" * 20, None),
]


def checked(body: str) -> str:
    """Any text with the checksum that a key of ours would have."""
    return f"{body}_{zlib.crc32(body.encode()):08x}"


@pytest.fixture
async def customer(http: httpx.AsyncClient, wallet: LocalAccount) -> LocalAccount:
    """A wallet with fifty credits."""
    await buy(http, wallet)
    return wallet


@pytest.fixture
async def key(attacked: LiveServer, customer: LocalAccount) -> str:
    return await issue(attacked, customer)


async def test_a_wrong_key_is_refused_at_every_door(
    http: httpx.AsyncClient, attacked: LiveServer, key: str
) -> None:
    prefix, number, secret, _ = key.split("_")
    wrong = {
        "empty": "",
        "short": "tk_1",
        "nonsense": "x" * 200,
        "another letter": key[:-1] + ("0" if key[-1] != "0" else "1"),
        "another secret": checked(f"{prefix}_{number}_{secrets.token_hex(32)}"),
        "another customer's number": checked(f"{prefix}_{'0' * 13}_{secret}"),
        "no number": checked(f"{prefix}_short_{secret}"),
        "a number that is too large": checked(f"{prefix}_{'z' * 13}_{secret}"),
        "the seller's prefix": checked(f"sk_{number}_{secret}"),
        "another prefix": checked(f"xk_{number}_{secret}"),
        "no secret": checked(f"{prefix}_{number}_"),
        "beyond ASCII": key[:-1] + "é",
    }
    before = await books(attacked)
    found = {}
    for name, text in wrong.items():
        raw = text.encode("latin-1")
        for method, path, body in ROUTES:
            for header in (
                {b"authorization": (b"Bearer " + raw).strip()},
                {b"x-api-key": raw},
            ):
                answer = await http.request(method, path, json=body, headers=header)
                found[name, method, path] = refusal_of(answer)
                assert "bearer" in answer.headers["www-authenticate"].lower()
                assert not text or text not in answer.text
    assert set(found.values()) == {INVALID_KEY}, found
    assert await books(attacked) == before


async def test_an_expired_or_revoked_key_is_refused_at_every_door(
    http: httpx.AsyncClient, attacked: LiveServer, customer: LocalAccount, key: str
) -> None:
    now = attacked.clock.now_ms()
    expiring = await issue(attacked, customer, expires_at_ms=now + 60_000)
    revoked = await issue(attacked, customer)
    for one in (expiring, revoked):
        assert (await http.get("/api/credits", headers=bearer(one))).status_code == 200
    listed = (await http.get("/api/keys", headers=bearer(key))).json()["keys"]
    number = "key_" + revoked.split("_")[1]
    assert number in {one["id"] for one in listed}
    ended = await http.delete(f"/api/keys/{number}", headers=bearer(key))
    assert ended.status_code == 204
    attacked.clock.advance(61)
    for one in (expiring, revoked):
        for method, path, body in ROUTES:
            answer = await http.request(method, path, json=body, headers=bearer(one))
            assert refusal_of(answer) == INVALID_KEY
    assert (await http.get(ANALYST, headers=bearer(key))).status_code == 200


async def test_a_missing_key_is_told_how_to_prove_itself(
    http: httpx.AsyncClient,
) -> None:
    for method, path, body in ROUTES:
        answer = await http.request(method, path, json=body)
        if path in (ANALYST, DEDUCT[1], "/api/credits/add"):
            assert answer.status_code == 402
        elif path.startswith("/features/risk_score"):
            assert answer.status_code == 200
        else:
            assert refusal_of(answer) == (401, "identity_required")
            assert "sign-in-with-x" in answer.json()["extensions"]


async def test_two_identities_at_once_are_refused(
    http: httpx.AsyncClient, attacked: LiveServer, key: str
) -> None:
    other = await issue(attacked, None)
    pairs = {
        "two bearers": [("Authorization", f"Bearer {one}") for one in (key, other)],
        "the same twice": [("Authorization", f"Bearer {key}")] * 2,
        "a bearer and a plain key": [
            ("Authorization", f"Bearer {key}"),
            ("X-API-Key", other),
        ],
        "two plain keys": [("X-API-Key", key), ("X-API-Key", other)],
        "a key and a sign-in": [
            ("Authorization", f"Bearer {key}"),
            ("SIGN-IN-WITH-X", "e30="),
        ],
        "two sign-ins": [("SIGN-IN-WITH-X", "e30="), ("SIGN-IN-WITH-X", "e30=")],
    }
    before = await books(attacked)
    found = {}
    for name, headers in pairs.items():
        for method, path, body in ROUTES:
            answer = await http.request(method, path, json=body, headers=headers)
            found[name, path] = refusal_of(answer)
    assert set(found.values()) == {TWO}, found
    assert await books(attacked) == before


async def test_a_sign_in_that_cannot_be_read_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer
) -> None:
    for text in ("", "%%%", "e30=", "bnVsbA==", "W10="):
        answer = await http.get("/api/credits", headers={"SIGN-IN-WITH-X": text})
        assert refusal_of(answer) == (400, "malformed_sign_in")
    assert await count(attacked, "customer") == 0


@pytest.mark.parametrize("version", [1, 2])
async def test_a_wallet_cannot_pay_with_another_customers_key(
    http: httpx.AsyncClient, attacked: LiveServer, key: str, version: int
) -> None:
    """It is refused before the claim, so the payment stays usable."""
    other: LocalAccount = Account.create()
    before = await books(attacked)
    pack = {"pack": "pack_5"}
    wanted: list[tuple[str, str, Any]] = [
        ("GET", ANALYST, None),
        DEDUCT,
        ("POST", "/api/credits/add", pack),
    ]
    for method, path, body in wanted:
        entry = await offer_of(http, path, method=method, json=body, version=version)
        payment = sign(other, entry)
        answer = await http.request(
            method, path, json=body, headers=payment.headers | bearer(key)
        )
        assert refusal_of(answer) == (409, "payer_not_linked")
    assert await books(attacked) == before


async def test_a_wallet_with_credits_cannot_pay_with_another_customers_key(
    http: httpx.AsyncClient, attacked: LiveServer, key: str
) -> None:
    """Not even where the payment would be waived."""
    other: LocalAccount = Account.create()
    await give(attacked, other, 5)
    payment = sign(other, await offer_of(http))
    before = await books(attacked)
    answer = await http.get(ANALYST, headers=payment.headers | bearer(key))
    assert refusal_of(answer) == (409, "payer_not_linked")
    assert await books(attacked) == before
    alone = await http.get(ANALYST, headers=payment.headers)
    assert alone.headers["credits-remaining"] == "4"


async def test_a_wallet_may_pay_with_its_own_customers_key(
    http: httpx.AsyncClient, customer: LocalAccount, key: str
) -> None:
    payment = sign(customer, await offer_of(http))
    answer = await http.get(ANALYST, headers=payment.headers | bearer(key))
    assert answer.headers["credits-remaining"] == "49"


async def test_a_key_that_may_only_read_spends_nothing(
    http: httpx.AsyncClient, attacked: LiveServer, customer: LocalAccount
) -> None:
    reader = await issue(attacked, customer, Scope.READ)
    before = await books(attacked)
    for method, path, body in (("GET", ANALYST, None), DEDUCT):
        answer = await http.request(method, path, json=body, headers=bearer(reader))
        assert refusal_of(answer) == (403, "scope_missing")
        assert answer.json()["scope"] == "spend"
    assert await books(attacked) == before


async def test_a_key_that_may_only_spend_reads_nothing(
    http: httpx.AsyncClient, attacked: LiveServer, customer: LocalAccount
) -> None:
    spender = await issue(attacked, customer, Scope.SPEND)
    for path in ("/api/credits", "/api/credits/transactions", "/api/keys"):
        answer = await http.get(path, headers=bearer(spender))
        assert refusal_of(answer) == (403, "scope_missing")
    answer = await http.get(ANALYST, headers=bearer(spender))
    assert answer.headers["credits-remaining"] == "49"


async def test_a_service_key_spends_only_for_the_customer_it_names(
    http: httpx.AsyncClient, attacked: LiveServer, customer: LocalAccount
) -> None:
    service = bearer(await issue(attacked, None))
    assert (await http.get(ANALYST, headers=service)).status_code == 402
    method, path, body = DEDUCT
    answer = await http.request(method, path, json=body, headers=service)
    assert refusal_of(answer) == (422, "invalid_request")
    for text in ("somebody", "cus_1", "0x12", "cus_" + "z" * 13):
        named = service | {"Tallystick-Customer": text}
        answer = await http.request(method, path, json=body, headers=named)
        assert refusal_of(answer) == (404, "unknown_id")
    named = service | {"Tallystick-Customer": customer.address}
    answer = await http.request(method, path, json=body, headers=named)
    assert answer.json()["credits"] == 49


async def test_a_customer_that_does_not_exist_is_unknown_at_every_door(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    customer: LocalAccount,
) -> None:
    """Otherwise the seller would be told that its customer is short, or nobody."""
    stranger = await funded(chain)
    service = bearer(await issue(attacked, None))
    paid = sign(stranger, await offer_of(http)).headers
    doors: list[tuple[str, str, Any]] = [
        ("GET", "/api/credits", None),
        ("GET", "/api/credits/transactions", None),
        ("GET", "/api/keys", None),
        ("POST", "/api/keys", {}),
        ("POST", "/api/credits/deduct", {"feature": "ai_analyst"}),
        ("POST", "/api/credits/add", {"pack": "pack_5"}),
        ("GET", ANALYST, None),
    ]
    before = await books(attacked)
    for named in (stranger.address, stranger.address.lower(), "cus_0000000000001"):
        headers = service | {"Tallystick-Customer": named}
        for method, path, body in doors:
            for more in ({}, paid):
                answer = await http.request(
                    method, path, json=body, headers=headers | more
                )
                assert refusal_of(answer) == (404, "unknown_customer"), path
                assert "first payment" in answer.json()["next_step"]
        question = {
            "feature": "ai_analyst",
            "method": "GET",
            "url": ANALYST,
            "headers": headers,
        }
        told = await http.post("/api/paywall/authorize", json=question, headers=service)
        assert (told.json()["verdict"], told.json()["status"]) == ("answer", 404)
        assert told.json()["body"]["code"] == "unknown_customer"
    assert await books(attacked) == before
    assert await count(attacked, "customer") == 1
    # A wallet that has paid is one from then on.
    await buy(http, stranger)
    headers = service | {"Tallystick-Customer": stranger.address}
    assert (await http.get("/api/credits", headers=headers)).json()["credits"] == 50


async def test_a_customers_key_cannot_name_another_customer(
    http: httpx.AsyncClient, attacked: LiveServer, key: str
) -> None:
    other: LocalAccount = Account.create()
    await give(attacked, other, 5)
    named = bearer(key) | {"Tallystick-Customer": other.address}
    answer = await http.get("/api/credits", headers=named)
    assert refusal_of(answer) == TWO
    assert refusal_of(await http.get(ANALYST, headers=named)) == TWO
    service = bearer(await issue(attacked, None))
    twice = [
        *service.items(),
        ("Tallystick-Customer", other.address),
        ("Tallystick-Customer", other.address),
    ]
    assert refusal_of(await http.get("/api/credits", headers=twice)) == TWO
    anonymous = {"Tallystick-Customer": other.address}
    assert refusal_of(await http.get("/api/credits", headers=anonymous)) == (
        401,
        "identity_required",
    )
