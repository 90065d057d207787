"""Stock Python clients pay and sign in from our challenge, and accept our answer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount
from x402.client import x402Client
from x402.extensions.sign_in_with_x import (
    CreateSIWxClientExtensionOptions,
    create_siwx_client_extension,
)
from x402.http.clients.httpx import x402AsyncTransport
from x402.http.x402_http_client import x402HTTPClientSync
from x402.mechanisms.evm.exact import register_exact_evm_client

from tallystick.kernel.money import UsdcAtomic
from tallystick.kernel.seal import Seal
from tallystick.x402 import headers
from tallystick.x402.challenge import (
    Resource,
    render_challenge,
    render_payment_response,
)
from tallystick.x402.exact_evm import ProvenPayer, check_authorization, prove_payer
from tallystick.x402.sealed_nonces import SealedNonces
from tallystick.x402.siwx import SIGN_IN_WITH_X, SignedIn, declare_siwx, verify_siwx
from tallystick.x402.wire import PaymentTerms

URL = "https://api.example.com/features/ai_analyst"
NONCES = SealedNonces(Seal(b"s" * 32))


class Shop:
    """A server of one priced page, in as few words as the protocol allows."""

    def __init__(
        self,
        resource: Resource,
        v2: Sequence[PaymentTerms],
        v1: Sequence[PaymentTerms],
        *,
        offers_sign_in: bool = False,
        credits_left: int = 0,
    ) -> None:
        self.resource, self.v2, self.v1 = resource, v2, v1
        self.offers_sign_in = offers_sign_in
        self.credits_left = credits_left
        self.seen: list[str] = []
        self.payers: list[bytes] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        now_seconds = int(time.time())
        payment = headers.decode_payment(
            request.headers.get_list(headers.PAYMENT_SIGNATURE),
            request.headers.get_list(headers.X_PAYMENT),
        )
        signed_in = request.headers.get(SIGN_IN_WITH_X)
        if payment is not None:
            self.seen.append(f"payment {payment.version}")
            terms = (self.v2 if payment.version == 2 else self.v1)[0]
            check_authorization(payment, terms, now_seconds=now_seconds)
            proof = prove_payer(payment, terms.domain)
            assert isinstance(proof, ProvenPayer)
            self.payers.append(proof.address)
            return self._serve(payment.version, proof.address)
        if signed_in is not None and self.credits_left > 0:
            who = verify_siwx(
                signed_in,
                expected_origin="https://api.example.com",
                chain_id=84532,
                now_seconds=now_seconds,
                check_nonce=NONCES.check,
            )
            assert isinstance(who, SignedIn)
            self.seen.append("sign-in")
            self.payers.append(who.address)
            return httpx.Response(200, json={"answer": 42})
        self.seen.append("challenge")
        return self._challenge(now_seconds)

    def _serve(self, version: int, payer: bytes) -> httpx.Response:
        told = render_payment_response(
            success=True,
            transaction="",
            network="eip155:84532" if version == 2 else "base-sepolia",
            payer=payer,
            amount=0,
            extra={"credits": {"charged": "1", "remaining": "9"}},
        )
        names = {1: headers.X_PAYMENT_RESPONSE, 2: headers.PAYMENT_RESPONSE}
        return httpx.Response(200, json={"answer": 42}, headers={names[version]: told})

    def _challenge(self, now_seconds: int) -> httpx.Response:
        offered: dict[str, Any] = {}
        if self.offers_sign_in:
            offered = declare_siwx(
                origin="https://api.example.com",
                path="/features/ai_analyst",
                chain_id=84532,
                now_seconds=now_seconds,
                make_nonce=NONCES.make,
                statement="Sign in to spend your credits.",
            )
        made = render_challenge(self.resource, self.v2, self.v1, "pay", offered)
        shown = {headers.PAYMENT_REQUIRED: made.header} if self.v2 else {}
        return httpx.Response(402, json={"status": 402} | made.body, headers=shown)


def _browse(shop: Shop, client: x402Client) -> httpx.AsyncClient:
    transport = x402AsyncTransport(client, httpx.MockTransport(shop.answer))
    return httpx.AsyncClient(transport=transport)


@pytest.fixture
def client(wallet: LocalAccount) -> x402Client:
    return register_exact_evm_client(x402Client(), wallet)


@pytest.fixture
def payer(wallet: LocalAccount) -> bytes:
    return bytes.fromhex(wallet.address[2:])


async def test_a_client_of_version_2_pays_and_takes_the_waived_answer(
    resource: Resource, terms: PaymentTerms, client: x402Client, payer: bytes
) -> None:
    cheaper = replace(terms, amount=UsdcAtomic(100_000))
    shop = Shop(resource, [terms, cheaper], [cheaper])
    async with _browse(shop, client) as browser:
        answer = await browser.get(URL)
    assert answer.json() == {"answer": 42}
    assert shop.seen == ["challenge", "payment 2"]
    assert shop.payers == [payer]


async def test_a_client_of_version_1_pays_and_takes_the_waived_answer(
    resource: Resource, terms: PaymentTerms, client: x402Client, payer: bytes
) -> None:
    shop = Shop(resource, [], [terms])
    async with _browse(shop, client) as browser:
        answer = await browser.get(URL)
    assert answer.json() == {"answer": 42}
    assert shop.seen == ["challenge", "payment 1"]
    assert shop.payers == [payer]


async def test_a_client_that_signs_in_spends_credits_without_paying(
    resource: Resource,
    terms: PaymentTerms,
    client: x402Client,
    wallet: LocalAccount,
    payer: bytes,
) -> None:
    options = CreateSIWxClientExtensionOptions(signers=[wallet])
    client.register_extension(create_siwx_client_extension(options))
    shop = Shop(resource, [terms], [terms], offers_sign_in=True, credits_left=5)
    async with _browse(shop, client) as browser:
        answer = await browser.get(URL)
    assert answer.json() == {"answer": 42}
    assert shop.seen == ["challenge", "sign-in"]
    assert shop.payers == [payer]


async def test_a_client_that_signs_in_without_credits_goes_on_to_pay(
    resource: Resource,
    terms: PaymentTerms,
    client: x402Client,
    wallet: LocalAccount,
) -> None:
    options = CreateSIWxClientExtensionOptions(signers=[wallet])
    client.register_extension(create_siwx_client_extension(options))
    shop = Shop(resource, [terms], [terms], offers_sign_in=True)
    async with _browse(shop, client) as browser:
        answer = await browser.get(URL)
    assert answer.status_code == 200
    # The payment holds our whole sign-in offer, echoed, and still fits our caps.
    assert shop.seen == ["challenge", "challenge", "payment 2"]


async def test_a_client_without_the_extension_pays_though_a_sign_in_is_offered(
    resource: Resource, terms: PaymentTerms, client: x402Client
) -> None:
    shop = Shop(resource, [terms], [terms], offers_sign_in=True, credits_left=5)
    async with _browse(shop, client) as browser:
        answer = await browser.get(URL)
    assert answer.status_code == 200
    assert shop.seen == ["challenge", "payment 2"]


def test_the_stock_client_reads_a_waived_answer_as_success(
    stock_client: x402HTTPClientSync, challenge: Any, payer: bytes
) -> None:
    required = stock_client.get_payment_required_response(
        {headers.PAYMENT_REQUIRED: challenge.header}.get
    )
    payload = stock_client.create_payment_payload(required)
    told = render_payment_response(
        success=True,
        transaction="",
        network="eip155:84532",
        payer=payer,
        amount=0,
        extra={"credits": {"charged": "1", "remaining": "9"}},
    )
    get_header: Callable[[str], str | None] = {headers.PAYMENT_RESPONSE: told}.get
    result = stock_client.process_payment_result(payload, get_header, 200)
    assert result.recovered is False
    assert result.settle_response is not None
    assert result.settle_response.success
    assert result.settle_response.amount == "0"
