"""One wallet, one offer, and the stock Python client that pays it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from x402.client import x402ClientSync
from x402.http.x402_http_client import x402HTTPClientSync
from x402.mechanisms.evm.exact import register_exact_evm_client

from tallystick.kernel.money import UsdcAtomic
from tallystick.x402.challenge import Resource, render_challenge
from tallystick.x402.networks import BASE_SEPOLIA
from tallystick.x402.strict_json import encode_header
from tallystick.x402.wire import PaymentTerms

NOW_SECONDS = 1_790_000_000


@pytest.fixture(scope="session")
def wallet() -> LocalAccount:
    return Account.from_key("0x" + "4c" * 32)


@pytest.fixture(scope="session")
def stranger() -> LocalAccount:
    return Account.from_key("0x" + "5d" * 32)


@pytest.fixture(scope="session")
def terms() -> PaymentTerms:
    return PaymentTerms(
        domain=BASE_SEPOLIA.usdc,
        amount=UsdcAtomic(1_000_000),
        pay_to=bytes.fromhex("209693Bc6afc0C5328bA36FaF03C514EF312287C"),
        max_timeout_seconds=120,
        extra={"quote": "q1.1790000120.c2VhbGVk"},
    )


@pytest.fixture(scope="session")
def resource() -> Resource:
    return Resource("https://api.example.com/features/ai_analyst", "AI analyst")


@pytest.fixture(scope="session")
def stock_client(wallet: LocalAccount) -> x402HTTPClientSync:
    client = x402ClientSync()
    register_exact_evm_client(client, wallet)
    return x402HTTPClientSync(client)


@pytest.fixture(scope="session")
def now_seconds() -> int:
    return NOW_SECONDS


@pytest.fixture(scope="session")
def sign(wallet: LocalAccount, terms: PaymentTerms) -> Callable[..., dict[str, Any]]:
    """Signs an authorization; keywords replace fields of it or of the domain."""

    def _sign(*, key: LocalAccount = wallet, **replaced: Any) -> dict[str, Any]:
        facts = SimpleNamespace(
            payer=wallet.address,
            pay_to="0x" + terms.pay_to.hex(),
            value=terms.amount,
            valid_after=0,
            valid_before=NOW_SECONDS + terms.max_timeout_seconds,
            nonce=b"\x07" * 32,
            chain_id=terms.domain.chain_id,
            contract="0x" + terms.asset.hex(),
            name=terms.domain.name,
            version=terms.domain.version,
        )
        vars(facts).update(replaced)
        return _signed(key, facts)

    return _sign


def _signed(key: LocalAccount, facts: SimpleNamespace) -> dict[str, Any]:
    kinds = {"address": ("from", "to"), "bytes32": ("nonce",)}
    kinds["uint256"] = ("value", "validAfter", "validBefore")
    order = ("from", "to", "value", "validAfter", "validBefore", "nonce")
    kind_of = {name: kind for kind, names in kinds.items() for name in names}
    message = {
        "from": facts.payer,
        "to": facts.pay_to,
        "value": facts.value,
        "validAfter": facts.valid_after,
        "validBefore": facts.valid_before,
        "nonce": facts.nonce,
    }
    signed = key.sign_typed_data(
        {
            "name": facts.name,
            "version": facts.version,
            "chainId": facts.chain_id,
            "verifyingContract": facts.contract,
        },
        {
            "TransferWithAuthorization": [
                {"name": name, "type": kind_of[name]} for name in order
            ]
        },
        message,
    )
    spelled = {name: str(message[name]) for name in kinds["uint256"]}
    spelled |= {"from": facts.payer, "to": facts.pay_to}
    spelled["nonce"] = "0x" + facts.nonce.hex()
    return {"signature": "0x" + signed.signature.hex(), "authorization": spelled}


@pytest.fixture(scope="session")
def payment_v2(sign: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The document of a PAYMENT-SIGNATURE header for the offer."""

    def _payment(accepted: dict[str, Any] | None = None, **signed: Any) -> Any:
        entry = {
            "scheme": "exact",
            "network": "eip155:84532",
            "amount": "1000000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "payTo": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C",
            "maxTimeoutSeconds": 120,
            "extra": {
                "name": "USDC",
                "version": "2",
                "quote": "q1.1790000120.c2VhbGVk",
            },
        }
        return {
            "x402Version": 2,
            "payload": sign(**signed),
            "accepted": entry | (accepted or {}),
            "resource": {"url": "https://api.example.com/features/ai_analyst"},
        }

    return _payment


@pytest.fixture(scope="session")
def payment_v1(sign: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The document of an X-PAYMENT header for the offer."""

    def _payment(**signed: Any) -> dict[str, Any]:
        return {
            "x402Version": 1,
            "scheme": "exact",
            "network": "base-sepolia",
            "payload": sign(**signed),
        }

    return _payment


@pytest.fixture(scope="session")
def header() -> Callable[[Any], str]:
    return encode_header


@pytest.fixture(scope="session")
def challenge(resource: Resource, terms: PaymentTerms) -> Any:
    return render_challenge(resource, [terms], [terms], "payment_required")
