"""Stock Python clients of version 2 pay, spend their credits, and take our answers."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import requests
from eth_account.signers.local import LocalAccount
from x402.http.clients import x402HttpxClient
from x402.http.clients.httpx import PaymentError
from x402.http.clients.requests import wrapRequestsWithPayment
from x402.http.x402_http_client import x402HTTPClientSync
from x402.mechanisms.evm.exact import ExactEvmScheme, register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner

from tallystick.chain.local import LocalChain
from tallystick.chain.token import balance_of
from tests.api.payments import (
    ADDRESS,
    ANALYST,
    ON_SQLITE,
    address_of,
    count,
    decode,
    funded,
)
from tests.live import DOLLAR, Buyer, LiveServer
from x402 import x402Client, x402ClientSync

pytestmark = ON_SQLITE


async def test_httpx_pays_a_dollar_and_spends_ten_credits(
    server: LiveServer, chain: LocalChain
) -> None:
    wallet = await funded(chain)
    answers = []
    async with Buyer(wallet).client(server) as client:
        for _ in range(11):
            answer = await client.get(ANALYST)
            assert answer.status_code == 200, answer.text
            assert answer.json()["address"] == ADDRESS
            answers.append(answer)
    told = [decode(one.headers["PAYMENT-RESPONSE"]) for one in answers]
    assert all(one["success"] for one in told)
    assert [one["amount"] for one in told] == ["1000000", *["0"] * 9, "1000000"]
    assert await balance_of(chain.chain, address_of(wallet)) == 98 * DOLLAR
    assert await count(server, "relayed_transaction") == 2


async def test_httpx_buys_a_pack_once_its_owner_allows_more_than_a_dollar(
    server: LiveServer, chain: LocalChain
) -> None:
    wallet, pack = await funded(chain), {"pack": "pack_5"}
    payer = x402Client()
    payer.register("eip155:*", ExactEvmScheme(EthAccountSigner(wallet)))
    async with x402HttpxClient(payer, base_url=server.url, timeout=60) as client:
        with pytest.raises(PaymentError, match="max_amount_per_payment"):
            await client.post("/api/credits/add", json=pack)
        assert await count(server, "claim") == 0
        payer.set_spend_controls({"max_amount_per_payment": "$5"})
        answer = await client.post("/api/credits/add", json=pack)
        assert answer.json()["credits"] == 50
        served = await client.get(ANALYST)
        assert served.headers["credits-remaining"] == "49"
    assert await balance_of(chain.chain, address_of(wallet)) == 95 * DOLLAR


def session_of(wallet: LocalAccount) -> requests.Session:
    """An unmodified synchronous client."""
    client = x402ClientSync()
    client.register("eip155:*", ExactEvmScheme(EthAccountSigner(wallet)))
    return wrapRequestsWithPayment(requests.Session(), client)


async def test_requests_pays_a_dollar_and_spends_its_credits(
    server: LiveServer, chain: LocalChain
) -> None:
    wallet = await funded(chain)

    def calls() -> list[dict[str, Any]]:
        found = []
        with session_of(wallet) as session:
            for _ in range(3):
                answer = session.get(server.url + ANALYST, timeout=60)
                assert answer.status_code == 200, answer.text
                found.append(
                    decode(answer.headers["PAYMENT-RESPONSE"])
                    | {"left": answer.headers["Credits-Remaining"]}
                )
        return found

    told = await asyncio.to_thread(calls)
    assert [(one["amount"], one["left"]) for one in told] == [
        ("1000000", "9"),
        ("0", "8"),
        ("0", "7"),
    ]
    assert await count(server, "relayed_transaction") == 1


async def test_the_stock_client_reads_our_result(
    server: LiveServer, chain: LocalChain
) -> None:
    """By its own reader: what we call settled, and what we call waived."""
    wallet = await funded(chain)
    client = x402HTTPClientSync(register_exact_evm_client(x402ClientSync(), wallet))
    async with Buyer(wallet).client(server) as http:
        for is_waived in (False, True):
            answer = await http.get(ANALYST)
            get: Callable[[str], str | None] = answer.headers.get
            result = client.get_payment_settle_response(get)
            assert result.success
            assert result.payer == wallet.address
            assert (result.transaction == "") is is_waived
            assert result.network == "eip155:84532"
