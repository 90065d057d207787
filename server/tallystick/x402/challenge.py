"""The 402 answer for both versions at once, and the header that tells the result.

Version 2 reads the header PAYMENT-REQUIRED, version 1 the body. Clients that know
both look at the header first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tallystick.x402.keccak import checksum_address
from tallystick.x402.networks import NETWORKS
from tallystick.x402.strict_json import encode_header
from tallystick.x402.wire import EXACT, PaymentTerms

_NO_EXTENSIONS: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Resource:
    """What is sold, in words for a client's logs and a person's eyes.

    Stock clients send the URL back to us inside of the payment header, which we read
    only up to 8 KiB: leave out a query string that may be long.
    """

    url: str
    description: str
    mime_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Challenge:
    """``header`` is the value of PAYMENT-REQUIRED; ``body`` holds version 1's members.

    The caller merges its problem document into ``body``.
    """

    header: str
    body: dict[str, Any]


def render_challenge(
    resource: Resource,
    v2: Sequence[PaymentTerms],
    v1: Sequence[PaymentTerms],
    error: str,
    extensions: Mapping[str, Any] = _NO_EXTENSIONS,
) -> Challenge:
    """Offer these terms; stock clients take the first entry that they may pay.

    ``error`` is a reason code or a sentence. Without terms for version 1 the body
    speaks no x402 at all, because its clients fail on an empty list.
    """
    offer = {
        "x402Version": 2,
        "error": error,
        "resource": {
            "url": resource.url,
            "description": resource.description,
            "mimeType": resource.mime_type,
        },
        "accepts": [_entry_v2(terms) for terms in v2],
    }
    if extensions:
        offer["extensions"] = extensions
    # One entry with a network unknown to version 1 would spoil all the others.
    entries_v1 = [
        _entry_v1(terms, resource) for terms in v1 if terms.network in NETWORKS
    ]
    body = {"x402Version": 1, "error": error, "accepts": entries_v1}
    return Challenge(encode_header(offer), body if entries_v1 else {})


def render_payment_response(
    *,
    success: bool,
    transaction: str,
    network: str,
    payer: bytes | None,
    amount: int | None = None,
    error_reason: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> str:
    """The value of PAYMENT-RESPONSE and of X-PAYMENT-RESPONSE.

    ``transaction`` is the hash with 0x, or empty where nothing went on chain: a
    failure, or a waived payment (``amount`` 0). ``network`` is in CAIP-2 form for
    version 2 and a name for version 1. ``amount`` is in atomic units.
    """
    optional = {
        "payer": None if payer is None else checksum_address(payer),
        "amount": None if amount is None else str(amount),
        "errorReason": error_reason,
        "extra": extra,
    }
    result = {"success": success, "transaction": transaction, "network": network}
    given = {key: value for key, value in optional.items() if value is not None}
    return encode_header(result | given)


def _entry_v2(terms: PaymentTerms) -> dict[str, Any]:
    return {
        "scheme": EXACT,
        "network": terms.network,
        "amount": str(terms.amount),
        "asset": checksum_address(terms.asset),
        "payTo": checksum_address(terms.pay_to),
        "maxTimeoutSeconds": terms.max_timeout_seconds,
        "extra": terms.full_extra(),
    }


def _entry_v1(terms: PaymentTerms, resource: Resource) -> dict[str, Any]:
    """An entry that the strict schema of ``x402-fetch`` takes, member by member."""
    return {
        "scheme": EXACT,
        "network": NETWORKS[terms.network].v1_name,
        "maxAmountRequired": str(terms.amount),
        "resource": resource.url,
        "description": resource.description,
        "mimeType": resource.mime_type,
        "payTo": checksum_address(terms.pay_to),
        "maxTimeoutSeconds": terms.max_timeout_seconds,
        "asset": checksum_address(terms.asset),
        # v1 clients do not echo it; only the token's domain is of use to them.
        "extra": {"name": terms.domain.name, "version": terms.domain.version},
    }
