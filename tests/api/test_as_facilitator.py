"""Stock sellers' servers have their payments settled by this one, over HTTP."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from fastapi import FastAPI
from x402.http import PaymentOption
from x402.http.clients.httpx import PaymentError
from x402.http.middleware.fastapi import payment_middleware
from x402.http.types import RouteConfig
from x402.mechanisms.evm.exact import ExactEvmServerScheme
from x402.schemas import PaymentPayload, PaymentRequirements
from x402.schemas.v1 import PaymentPayloadV1, PaymentRequirementsV1

from tallystick.chain.local import ADDRESSES, LocalChain
from tallystick.identity.keys import Scope, issue_key
from tallystick.identity.models import KeyKind
from tallystick.payments.merchants.registry import revoke_merchant
from tallystick.payments.rules.gas import GasRules
from tallystick.x402 import reasons
from tallystick.x402.keccak import checksum_address
from tests.api.merchants import CENT, NETWORK, Merchant, joined
from tests.api.payments import (
    ON_SQLITE,
    Payment,
    count,
    decode,
    funded,
    refusal_of,
    sign,
)
from tests.chain.payer import cancel_call
from tests.live import Buyer, LiveServer, make_settings, start_server
from tests.payments.facilitators import listening
from x402 import x402ResourceServer

OURS = ("customer", "claim", "topup", "ledger_transaction", "chain_transfer")
DOORS = (("GET", "supported"), ("POST", "verify"), ("POST", "settle"))


@pytest.fixture
async def facilitator(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    """Its audit must pass when the test is over, and its books must be empty."""
    settings = make_settings(
        database_url, chain.url, free_port, act_as_facilitator=True
    )
    live = await start_server(settings)
    try:
        yield live
        assert (await live.audit()).findings == []
        assert [await count(live, table) for table in OURS] == [0] * len(OURS)
    finally:
        await live.stop()


@pytest.fixture
async def merchant(facilitator: LiveServer, chain: LocalChain) -> Merchant:
    return await joined(facilitator, chain)


@pytest.fixture
async def http(facilitator: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=facilitator.url, timeout=60) as client:
        yield client


def models(payment: Payment, entry: dict[str, Any]) -> tuple[Any, Any]:
    """As the SDK's server has them."""
    if payment.version == 1:
        return (
            PaymentPayloadV1.model_validate(payment.document),
            PaymentRequirementsV1.model_validate(entry),
        )
    return (
        PaymentPayload.model_validate(payment.document),
        PaymentRequirements.model_validate(entry),
    )


def body(payment: Payment, entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "x402Version": payment.version,
        "paymentPayload": payment.document,
        "paymentRequirements": entry,
    }


def seller(merchant: Merchant) -> FastAPI:
    """Another seller's app with the SDK's own middleware."""
    server = x402ResourceServer(merchant.stock())
    server.register(NETWORK, ExactEvmServerScheme())
    price = PaymentOption(
        scheme="exact",
        pay_to=checksum_address(merchant.pay_to),
        price="$0.01",
        network=NETWORK,
    )
    app = FastAPI()
    routes = {"GET /joke": RouteConfig(accepts=[price])}
    charge = payment_middleware(routes, server, sync_facilitator_on_start=False)
    app.state.x402, app.state.told = server, 0
    app.middleware("http")(charge)

    @app.get("/joke")
    async def joke() -> dict[str, int]:
        app.state.told += 1
        return {"number": app.state.told}

    return app


async def test_a_stock_client_pays_a_stock_seller_whose_payments_we_settle(
    facilitator: LiveServer, merchant: Merchant, chain: LocalChain
) -> None:
    app = seller(merchant)
    # It asks /supported in a blocking call, and we are in the same loop.
    await asyncio.to_thread(app.state.x402.initialize)
    buyer = Buyer(await funded(chain, 1))
    async with listening(app) as shop, buyer.client(shop.url) as client:
        answers = [await client.get("/joke") for _ in range(3)]
        assert [one.status_code for one in answers] == [200] * 3, answers[-1].text
        poor = Buyer(Account.create())
        async with poor.client(shop.url) as nothing:
            refused = await nothing.get("/joke")
    assert refused.status_code == 402
    assert app.state.told == 3
    assert await merchant.income() == 3 * CENT
    assert await count(facilitator, "relayed_transaction") == 3


@pytest.mark.parametrize("version", [1, 2])
async def test_the_sdks_client_reads_every_answer(
    merchant: Merchant, chain: LocalChain, version: int
) -> None:
    entry = merchant.entry(version)
    wallet = await funded(chain, 1)
    payment = sign(wallet, entry)
    payload, wanted = models(payment, entry)
    stock = merchant.stock()
    async with stock:
        told = await asyncio.to_thread(stock.get_supported)
        kinds = {(one.x402_version, one.scheme, one.network) for one in told.kinds}
        assert kinds == {(2, "exact", NETWORK), (1, "exact", "base-sepolia")}
        assert told.signers == {"eip155:*": [checksum_address(ADDRESSES[1])]}
        verified = await stock.verify(payload, wanted)
        assert (verified.is_valid, verified.payer) == (True, wallet.address)
        results = await asyncio.gather(*(stock.settle(payload, wanted) for _ in "123"))
        assert {one.success for one in results} == {True}
        assert len({one.transaction for one in results}) == 1
        assert results[0].network == entry["network"]
        assert results[0].payer == wallet.address
        again = await stock.settle(payload, wanted)
        assert again == results[0]
        replayed = await stock.verify(payload, wanted)
        assert (replayed.is_valid, replayed.invalid_reason) == (
            False,
            reasons.NONCE_ALREADY_USED,
        )
    assert await merchant.income() == CENT
    assert await count(merchant.server, "relayed_transaction") == 1


@ON_SQLITE
async def test_what_was_cancelled_after_it_was_verified_is_not_settled(
    merchant: Merchant, chain: LocalChain
) -> None:
    entry, wallet = merchant.entry(), await funded(chain, 1)
    payment = sign(wallet, entry)
    payload, wanted = models(payment, entry)
    async with merchant.stock() as stock:
        assert (await stock.verify(payload, wanted)).is_valid
        nonce = bytes.fromhex(payment.authorization["nonce"][2:])
        address = bytes.fromhex(wallet.address[2:])
        call = cancel_call(chain, bytes(wallet.key), nonce)
        await chain.send(address, chain.token, call)
        result = await stock.settle(payload, wanted)
    assert (result.success, result.transaction) == (False, "")
    assert result.error_reason == reasons.NONCE_ALREADY_USED
    assert await count(merchant.server, "merchant_settlement") == 0


@ON_SQLITE
async def test_off_unless_it_is_turned_on(
    database_url: str, chain: LocalChain, free_port: int
) -> None:
    live = await start_server(make_settings(database_url, chain.url, free_port))
    try:
        other = await joined(live, chain)
        async with httpx.AsyncClient(
            base_url=live.url, headers=other.headers()
        ) as http:
            for method, door in DOORS:
                answer = await http.request(method, f"/x402/{door}", json={})
                assert refusal_of(answer)[0] == 404
            paths = (await http.get("/openapi.json")).json()["paths"]
        assert not [path for path in paths if path.startswith("/x402")]
    finally:
        await live.stop()


@ON_SQLITE
async def test_only_merchants_are_served_and_only_as_merchants(
    merchant: Merchant, http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    gate = merchant.server.gate
    service = await gate.db.write(
        lambda session: issue_key(
            session, gate.seal, KeyKind.SERVICE, name="", scopes=frozenset(Scope)
        )
    )
    wrong = merchant.key.replace("mk_", "sk_")
    strangers: list[dict[str, str]] = [
        {},
        {"Authorization": f"Bearer {service.secret}"},
        {"Authorization": f"Bearer {wrong}"},
        {"Authorization": f"Bearer {merchant.key[:-1]}"},
        {"X-API-Key": merchant.key},
        {"Authorization": f"Basic {merchant.key}"},
    ]
    for method, door in DOORS:
        for headers in strangers:
            answer = await http.request(method, f"/x402/{door}", headers=headers)
            assert refusal_of(answer)[0] == 401, headers
    for path in ("/api/credits", "/api/credits/transactions", "/api/keys"):
        answer = await http.get(path, headers=merchant.headers())
        assert refusal_of(answer) == (401, "invalid_key")
    paths = (await http.get("/openapi.json")).json()["paths"]
    assert {"/x402/supported", "/x402/verify", "/x402/settle"} <= set(paths)
    assert merchant.key not in caplog.text
    await gate.db.write(lambda session: revoke_merchant(session, merchant.id))
    answer = await http.get("/x402/supported", headers=merchant.headers())
    assert refusal_of(answer) == (401, "invalid_merchant_key")


@ON_SQLITE
async def test_only_payments_to_the_merchant_itself_are_settled(
    merchant: Merchant, chain: LocalChain, http: httpx.AsyncClient
) -> None:
    other = await joined(merchant.server, chain)
    ours = merchant.server.gate.rail.pay_to
    wallet = await funded(chain, 1)
    for pay_to in (other.pay_to, ours, secrets.token_bytes(20)):
        entry = merchant.entry(payTo=checksum_address(pay_to))
        asked = body(sign(wallet, entry), entry)
        for door in ("verify", "settle"):
            answer = await http.post(
                f"/x402/{door}", json=asked, headers=merchant.headers()
            )
            assert refusal_of(answer) == (403, "payee_not_allowed")
    assert await count(merchant.server, "merchant_settlement") == 0


def _with(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(document))
    *parents, name = path.split(".")
    place = made
    for parent in parents:
        place = place[parent]
    place[name] = value
    return made


@ON_SQLITE
async def test_what_does_not_fit_is_told_in_the_protocols_words(
    merchant: Merchant, chain: LocalChain, http: httpx.AsyncClient
) -> None:
    entry, wallet = merchant.entry(), await funded(chain, 1)
    good = body(sign(wallet, entry), entry)
    signed, other = "paymentPayload.payload.authorization.", "0x" + "ab" * 20
    wanted = "paymentRequirements."
    terms = reasons.INVALID_PAYMENT_REQUIREMENTS
    late = body(sign(wallet, entry, lives=4), entry)
    far = body(sign(wallet, entry, lives=7200), entry)
    early = body(sign(wallet, entry, validAfter=2**40), entry)
    foreign = body(sign(wallet, entry, domain={"name": "USD Coin"}), entry)
    thief = body(sign(wallet, entry, key=Account.create()), entry)
    poor = body(sign(Account.create(), entry), entry)
    wrong: list[tuple[dict[str, Any], str]] = [
        (_with(good, "x402Version", 3), reasons.INVALID_X402_VERSION),
        (_with(good, f"{wanted}scheme", "upto"), reasons.UNSUPPORTED_SCHEME),
        (_with(good, f"{wanted}network", "eip155:8453"), reasons.INVALID_NETWORK),
        (_with(good, f"{wanted}asset", other), terms),
        (_with(good, f"{wanted}extra.name", "My Dollar"), terms),
        (_with(good, f"{wanted}extra.assetTransferMethod", "permit2"), terms),
        (_with(good, f"{wanted}extra.paymentFlow", "upfront"), terms),
        (_with(good, f"{wanted}amount", "20000"), terms),
        (_with(good, f"{wanted}amount", 10000), terms),
        (_with(good, "paymentPayload.accepted.payTo", other), terms),
        (_with(good, f"{signed}to", other), reasons.RECIPIENT_MISMATCH),
        (_with(good, f"{signed}value", "9999"), reasons.VALUE),
        (_with(good, f"{signed}value", "+10000"), reasons.INVALID_PAYLOAD),
        (_with(good, f"{signed}nonce", "0x12"), reasons.INVALID_PAYLOAD),
        (_with(good, f"{signed}validBefore", "99"), reasons.VALID_BEFORE),
        (late, reasons.VALID_BEFORE),
        (far, reasons.VALID_BEFORE),
        (early, reasons.VALID_AFTER),
        (foreign, reasons.SIGNATURE),
        (thief, reasons.SIGNATURE),
        (poor, reasons.INSUFFICIENT_FUNDS),
    ]
    for asked, reason in wrong:
        for door, said, why in (
            ("verify", "isValid", "invalidReason"),
            ("settle", "success", "errorReason"),
        ):
            answer = await http.post(
                f"/x402/{door}", json=asked, headers=merchant.headers()
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["cache-control"] == "no-store, private"
            told = answer.json()
            assert (told[said], told[why]) == (False, reason), told
    assert await count(merchant.server, "merchant_settlement") == 0
    assert await count(merchant.server, "relayed_transaction") == 0


@ON_SQLITE
async def test_what_is_no_request_is_refused_with_a_code(
    merchant: Merchant, http: httpx.AsyncClient
) -> None:
    cases: list[tuple[bytes, tuple[int, str]]] = [
        (b"", (422, "invalid_request")),
        (b"{", (422, "invalid_request")),
        (b'{"x402Version": 2, "x402Version": 2}', (422, "invalid_request")),
        (b"[]", (400, "malformed_settle_request")),
        (b'{"x402Version": 2}', (400, "malformed_settle_request")),
        (b"[" * 5000, (422, "invalid_request")),
        (b'"' + b"x" * 40_000 + b'"', (413, "body_too_large")),
    ]
    for door in ("verify", "settle"):
        for content, expected in cases:
            answer = await http.post(
                f"/x402/{door}", content=content, headers=merchant.headers()
            )
            assert refusal_of(answer) == expected, answer.text


async def _spoiled(
    merchant: Merchant, wallet: LocalAccount, http: httpx.AsyncClient
) -> dict[str, Any]:
    entry = merchant.entry()
    answer = await http.post(
        "/x402/settle",
        json=body(sign(wallet, entry), entry),
        headers=merchant.headers(),
    )
    told: dict[str, Any] = answer.json()
    return told


@ON_SQLITE
async def test_who_has_used_up_his_gas_is_told_and_the_next_is_served(
    merchant: Merchant, chain: LocalChain, http: httpx.AsyncClient
) -> None:
    gas: GasRules = merchant.server.gate.rail.gas
    wallet = await funded(chain, 1)
    other = await joined(merchant.server, chain)

    sql = "UPDATE merchant_gas SET spent = {} WHERE merchant_id = {}"
    assert (await _spoiled(merchant, wallet, http))["success"]
    async with merchant.server.gate.db.writer.begin() as connection:
        await connection.exec_driver_sql(sql.format(gas.per_merchant, merchant.id))
    told = await _spoiled(merchant, wallet, http)
    assert (told["success"], told["errorReason"]) == (
        False,
        reasons.UNEXPECTED_SETTLE_ERROR,
    )
    assert "used up" in told["errorMessage"]
    assert (await _spoiled(other, wallet, http))["success"]
    async with merchant.server.gate.db.writer.begin() as connection:
        spent = "(SELECT SUM(spent) FROM relayed_gas WHERE merchant_id = {})"
        await connection.exec_driver_sql(
            sql.format(spent.format(merchant.id), merchant.id)
        )


@ON_SQLITE
async def test_while_nobody_knows_it_is_pending_and_the_hash_is_named(
    database_url: str, chain: LocalChain, free_port: int
) -> None:
    """Stock servers ask once more by themselves, and never serve before it is sure."""
    settings = make_settings(
        database_url, chain.url, free_port, act_as_facilitator=True, settle_wait=1
    )
    live = await start_server(settings)
    try:
        other = await joined(live, chain)
        wallet = await funded(chain, 1)
        app = seller(other)
        await asyncio.to_thread(app.state.x402.initialize)
        await chain.set_automine(on=False)
        buyer = Buyer(wallet)
        async with listening(app) as shop, buyer.client(shop.url) as client:
            with_error = await _paid_or_error(client)
        assert "settlement_pending" in with_error
        entry = other.entry()
        payment = sign(wallet, entry)
        payload, wanted = models(payment, entry)
        async with other.stock() as stock:
            waiting = await stock.settle(payload, wanted)
            assert waiting.error_reason == reasons.SETTLEMENT_PENDING
            await chain.set_automine(on=True)
            await chain.mine()
            known = await stock.settle(payload, wanted)
        assert (known.success, known.transaction) == (True, waiting.transaction)
        assert await count(live, "relayed_transaction") == 2
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


async def _paid_or_error(client: Any) -> str:
    """What the buyer is told: by the header of a 402, or by an error of his client."""
    try:
        answer = await client.get("/joke")
    except PaymentError as error:
        return str(error)
    assert answer.status_code == 402
    told: str = decode(answer.headers["PAYMENT-RESPONSE"])["errorReason"]
    return told
