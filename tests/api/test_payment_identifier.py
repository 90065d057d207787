"""The extension payment-identifier: one name, one payment of one wallet."""

import asyncio
import secrets
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount
from x402.extensions.payment_identifier import (
    PAYMENT_IDENTIFIER,
    append_payment_identifier_to_extensions,
    extract_and_validate_payment_identifier,
    is_payment_identifier_required,
    validate_payment_identifier,
)
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm.exact import ExactEvmScheme
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.schemas.payments import PaymentPayload

from tallystick.chain.local import LocalChain
from tests.api.callers import give
from tests.api.payments import (
    ANALYST,
    ON_SQLITE,
    Payment,
    books,
    buy,
    count,
    decode,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.live import LiveServer, make_settings, start_server
from x402 import x402Client

PACK = {"pack": "pack_5"}


def named(payment: Payment, name: Any) -> Payment:
    """The payment with an identifier, as a client of version 2 sends it."""
    info = {"required": False, "id": name}
    return payment.saying("extensions", {PAYMENT_IDENTIFIER: {"info": info}})


async def pays(http: httpx.AsyncClient, wallet: LocalAccount, name: Any) -> Payment:
    return named(sign(wallet, await offer_of(http)), name)


class Naming:
    """A client's extension that gives every payment the same name."""

    key = PAYMENT_IDENTIFIER

    def __init__(self, name: str) -> None:
        self._name = name

    def enrich_payment_payload(self, payload: Any, required: Any) -> Any:
        told = append_payment_identifier_to_extensions(
            dict(required.extensions), self._name
        )
        return payload.model_copy(update={"extensions": told})


def stock_client(
    url: str, wallet: LocalAccount, name: str | None = None
) -> x402HttpxClient:
    """An unmodified client, whose owner may have registered the extension."""
    payer = x402Client()
    payer.register("eip155:*", ExactEvmScheme(EthAccountSigner(wallet)))
    if name is not None:
        payer.register_extension(Naming(name))
    return x402HttpxClient(payer, base_url=url, timeout=60)


@ON_SQLITE
async def test_the_declaration_and_a_stock_payment_satisfy_the_sdk(
    attacked: LiveServer, http: httpx.AsyncClient, chain: LocalChain
) -> None:
    answer = await http.get(ANALYST)
    offer = decode(answer.headers["PAYMENT-REQUIRED"])
    declared = offer["extensions"][PAYMENT_IDENTIFIER]
    assert validate_payment_identifier(declared).valid
    assert not is_payment_identifier_required(declared)
    wallet, name = await funded(chain), f"pay_{secrets.token_hex(16)}"
    echo = append_payment_identifier_to_extensions(dict(offer["extensions"]), name)
    payment = sign(wallet, offer["accepts"][0]).saying("extensions", echo)
    read = PaymentPayload.model_validate(payment.document)
    found, validation = extract_and_validate_payment_identifier(read)
    assert (found, validation.valid) == (name, True)
    served = await http.get(ANALYST, headers=payment.headers)
    assert served.status_code == 200, served.text
    assert await count(attacked, "claim", "identifier IS NOT NULL") == 1


async def test_one_name_pays_once_and_the_same_payment_gets_the_same_answer(
    attacked: LiveServer, http: httpx.AsyncClient, chain: LocalChain
) -> None:
    """Waived, so that the answer itself may be told again."""
    wallet, name = await funded(chain), secrets.token_hex(16)
    await give(attacked, wallet, 3)
    first = await pays(http, wallet, name)
    served = await http.get(ANALYST, headers=first.headers)
    assert served.status_code == 200, served.text
    before = await books(attacked)
    again = await http.get(ANALYST, headers=first.headers)
    assert (again.status_code, again.content) == (200, served.content)
    assert again.headers["idempotency-replayed"] == "true"
    other = await http.get(ANALYST, headers=(await pays(http, wallet, name)).headers)
    assert refusal_of(other) == (409, "payment_identifier_reused")
    assert await books(attacked) == before, "nothing was held, claimed or taken"
    more = await pays(http, wallet, secrets.token_hex(16))
    assert (await http.get(ANALYST, headers=more.headers)).status_code == 200


async def test_a_name_brings_no_answer_of_a_settled_payment(
    attacked: LiveServer, http: httpx.AsyncClient, chain: LocalChain
) -> None:
    """Its header is public, with or without a name."""
    wallet = await funded(chain)
    first = await pays(http, wallet, secrets.token_hex(16))
    assert (await http.get(ANALYST, headers=first.headers)).status_code == 200
    for copy in (first, named(first, secrets.token_hex(16)), named(first, None)):
        answer = await http.get(ANALYST, headers=copy.headers)
        assert refusal_of(answer) == (409, "payment_already_settled")
    assert await count(attacked, "usage_event") == 1


async def test_a_purchase_under_a_name_is_made_once(
    attacked: LiveServer, http: httpx.AsyncClient, chain: LocalChain
) -> None:
    wallet, name = await funded(chain), secrets.token_hex(16)
    request = {"method": "POST", "path": "/api/credits/add", "json": PACK}

    async def pay(payment: Payment) -> httpx.Response:
        return await http.post("/api/credits/add", json=PACK, headers=payment.headers)

    first = named(sign(wallet, await offer_of(http, **request)), name)
    bought, again = await pay(first), await pay(first)
    assert (bought.status_code, again.status_code) == (200, 200)
    assert again.json()["topup"]["id"] == bought.json()["topup"]["id"]
    other = named(sign(wallet, await offer_of(http, **request)), name)
    assert refusal_of(await pay(other)) == (409, "payment_identifier_reused")
    assert await count(attacked, "topup") == 1


async def test_of_many_payments_under_one_name_one_is_taken(
    attacked: LiveServer, http: httpx.AsyncClient, chain: LocalChain
) -> None:
    wallet, name = await funded(chain), secrets.token_hex(16)
    payments = [await pays(http, wallet, name) for _ in range(8)]
    answers = await asyncio.gather(
        *(http.get(ANALYST, headers=one.headers) for one in payments)
    )
    assert sorted(one.status_code for one in answers) == [200, *[409] * 7]
    refused = [refusal_of(one)[1] for one in answers if one.status_code == 409]
    assert set(refused) == {"payment_identifier_reused"}
    assert await count(attacked, "claim") == 1
    assert await count(attacked, "topup") == 1


async def test_nobody_can_take_anothers_name(
    attacked: LiveServer, http: httpx.AsyncClient, chain: LocalChain
) -> None:
    """Neither by using it nor by a payment in the other's name that he did not sign."""
    victim, thief = await funded(chain), await funded(chain)
    name = secrets.token_hex(16)
    offer = await offer_of(http)
    forged = named(sign(victim, offer, key=thief), name)
    assert (await http.get(ANALYST, headers=forged.headers)).status_code == 402
    assert await count(attacked, "claim") == 0
    for wallet in (thief, victim):
        payment = await pays(http, wallet, name)
        answer = await http.get(ANALYST, headers=payment.headers)
        assert answer.status_code == 200, answer.text


@ON_SQLITE
@pytest.mark.parametrize(
    "name",
    [
        "x" * 15,
        "x" * 129,
        "a name with blanks",
        "ünïcödé-ünïcödé-ünï",
        "sixteen-letters\n",
        "0123456789abcde\u0660",
        17,
        True,
        ["x" * 20],
        "",
    ],
)
async def test_a_name_that_is_none_is_refused(
    server: LiveServer, chain: LocalChain, name: Any
) -> None:
    wallet = await funded(chain)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        payment = await pays(http, wallet, name)
        answer = await http.get(ANALYST, headers=payment.headers)
        assert refusal_of(answer) == (400, "malformed_payment")
        assert answer.json()["field"].startswith("extensions.payment-identifier")
        assert await count(server, "claim") == 0


@ON_SQLITE
@pytest.mark.parametrize(
    "extensions", [[], "text", {PAYMENT_IDENTIFIER: []}, {PAYMENT_IDENTIFIER: {}}]
)
async def test_an_extension_of_another_shape_is_refused(
    server: LiveServer, chain: LocalChain, extensions: Any
) -> None:
    wallet = await funded(chain)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        payment = sign(wallet, await offer_of(http)).saying("extensions", extensions)
        answer = await http.get(ANALYST, headers=payment.headers)
        assert refusal_of(answer) == (400, "malformed_payment")


@ON_SQLITE
async def test_a_server_that_wants_names_takes_no_payment_without_one(
    database_url: str, chain: LocalChain, free_port: int
) -> None:
    settings = make_settings(
        database_url, chain.url, free_port, require_payment_identifier=True
    )
    live = await start_server(settings)
    wallet = await funded(chain)
    try:
        async with httpx.AsyncClient(base_url=live.url, timeout=60) as http:
            answer = await http.get(ANALYST)
            assert "accepts" not in answer.json(), "version 1 has no place for a name"
            offer = decode(answer.headers["PAYMENT-REQUIRED"])
            assert is_payment_identifier_required(
                offer["extensions"][PAYMENT_IDENTIFIER]
            )
            entry = offer["accepts"][0]
            for unnamed in (sign(wallet, entry), named(sign(wallet, entry), None)):
                for path in (ANALYST, "/api/credits/add"):
                    verb = http.get if path == ANALYST else http.post
                    body = {} if path == ANALYST else {"json": PACK}
                    refused = await verb(path, headers=unnamed.headers, **body)
                    assert refusal_of(refused) == (400, "payment_identifier_missing")
            v1 = {
                "scheme": "exact",
                "network": "base-sepolia",
                "maxAmountRequired": "100000",
                **{name: entry[name] for name in ("payTo", "asset", "extra")},
                "maxTimeoutSeconds": 60,
            }
            refused = await http.get(ANALYST, headers=sign(wallet, v1).headers)
            assert refusal_of(refused) == (400, "payment_identifier_missing")
        assert await count(live, "claim") == 0
        async with stock_client(live.url, wallet, secrets.token_hex(16)) as client:
            assert (await client.get(ANALYST)).status_code == 200
    finally:
        await live.stop()


@ON_SQLITE
async def test_payments_without_a_name_do_not_meet(
    attacked: LiveServer, http: httpx.AsyncClient, chain: LocalChain
) -> None:
    wallet = await funded(chain)
    await buy(http, wallet)
    await buy(http, wallet)
    assert await count(attacked, "claim", "identifier IS NULL") == 2
