"""From the headers PAYMENT-SIGNATURE (version 2) and X-PAYMENT (version 1).

A header gives one ``PaymentPayload`` or an error, never a guess; two spellings of a
payment give equal payloads or are refused.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tallystick.x402 import reasons
from tallystick.x402.errors import MalformedPayment, PaymentRejected
from tallystick.x402.fields import (
    FieldRefused,
    address,
    bytes32,
    hex_bytes,
    member,
    optional_member,
    plain_text,
    uint256,
)
from tallystick.x402.networks import NETWORKS_BY_V1_NAME
from tallystick.x402.payment_identifier import read_payment_identifier
from tallystick.x402.permit2 import Permit2Authorization
from tallystick.x402.strict_json import decode_header, encode_header
from tallystick.x402.wire import (
    EXACT,
    AcceptedTerms,
    Authorization,
    PaymentPayload,
    Version,
)

__all__ = [
    "PAYMENT_REQUIRED",
    "PAYMENT_RESPONSE",
    "PAYMENT_SIGNATURE",
    "X_PAYMENT",
    "X_PAYMENT_RESPONSE",
    "decode_payment",
    "encode_header",
    "read_payment",
    "read_terms",
]

PAYMENT_REQUIRED: Final = "PAYMENT-REQUIRED"
PAYMENT_SIGNATURE: Final = "PAYMENT-SIGNATURE"
PAYMENT_RESPONSE: Final = "PAYMENT-RESPONSE"
X_PAYMENT: Final = "X-PAYMENT"
X_PAYMENT_RESPONSE: Final = "X-PAYMENT-RESPONSE"

_PERMIT: Final = "permit2Authorization"
_CAIP2 = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}")


def decode_payment(
    v2_values: Sequence[bytes | str], v1_values: Sequence[bytes | str]
) -> PaymentPayload | None:
    """The payment in all values of the two headers; ``None`` where there is none.

    Raises ``MalformedPayment`` (400) for anything but one well-formed payment, and
    ``PaymentRejected`` (402) for a scheme or network whose payload we cannot read.
    """
    if not v2_values and not v1_values:
        return None
    if len(v2_values) + len(v1_values) > 1:
        raise MalformedPayment(
            PAYMENT_SIGNATURE, f"and {X_PAYMENT} together may be sent only once"
        )
    try:
        if v2_values:
            return read_payment(decode_header(v2_values[0], PAYMENT_SIGNATURE), 2)
        return read_payment(decode_header(v1_values[0], X_PAYMENT), 1)
    except FieldRefused as refusal:
        raise MalformedPayment(refusal.field, refusal.problem) from None


def read_payment(document: Mapping[str, Any], version: Version) -> PaymentPayload:
    """The payment in a decoded document of that version of the protocol.

    Raises ``FieldRefused``, and ``PaymentRejected`` as ``decode_payment`` does.
    """
    return _payment_v2(document) if version == 2 else _payment_v1(document)


def _payment_v2(document: Mapping[str, Any]) -> PaymentPayload:
    _require_version(document, 2)
    accepted = read_terms(member(document, "accepted", dict), "accepted.")
    resource = optional_member(document, "resource", dict)
    authorization, signature = _exact_payload(document, takes_permits=True)
    return PaymentPayload(
        version=2,
        scheme=accepted.scheme,
        network=accepted.network,
        authorization=authorization,
        signature=signature,
        accepted=accepted,
        resource_url=plain_text(resource, "url", "resource.") if resource else None,
        identifier=read_payment_identifier(document),
    )


def _payment_v1(document: Mapping[str, Any]) -> PaymentPayload:
    _require_version(document, 1)
    scheme = plain_text(document, "scheme")
    _require_exact(scheme)
    network = NETWORKS_BY_V1_NAME.get(plain_text(document, "network"))
    if network is None:
        raise PaymentRejected(reasons.INVALID_NETWORK, "network is not supported here")
    authorization, signature = _exact_payload(document)
    return PaymentPayload(
        version=1,
        scheme=scheme,
        network=network.caip2,
        authorization=authorization,
        signature=signature,
    )


def _require_version(document: Mapping[str, Any], version: int) -> None:
    if member(document, "x402Version", int) != version:
        raise FieldRefused("x402Version", f"must be {version} here")


def _require_exact(scheme: str) -> None:
    if scheme != EXACT:
        raise PaymentRejected(
            reasons.UNSUPPORTED_SCHEME, f"scheme is not {EXACT!r}, which alone is taken"
        )


def read_terms(entry: Mapping[str, Any], path: str) -> AcceptedTerms:
    """An entry of ``accepts`` in version 2, wherever it stands.

    Raises ``FieldRefused``, and ``PaymentRejected`` for another scheme or network.
    """
    scheme = plain_text(entry, "scheme", path)
    _require_exact(scheme)
    network = plain_text(entry, "network", path)
    if not _CAIP2.fullmatch(network):
        raise FieldRefused(f"{path}network", "is not a CAIP-2 network")
    if not network.startswith("eip155:"):
        raise PaymentRejected(reasons.INVALID_NETWORK, "network is not supported here")
    return AcceptedTerms(
        scheme=scheme,
        network=network,
        amount=uint256(entry, "amount", path),
        asset=address(entry, "asset", path),
        pay_to=address(entry, "payTo", path),
        max_timeout_seconds=member(entry, "maxTimeoutSeconds", int, path),
        extra=optional_member(entry, "extra", dict, path) or {},
    )


def _exact_payload(
    document: Mapping[str, Any], *, takes_permits: bool = False
) -> tuple[Authorization, bytes]:
    """What was signed, by either method of the scheme; version 1 knows only one."""
    payload = member(document, "payload", dict)
    authorization: Authorization
    if takes_permits and _PERMIT in payload:
        if "authorization" in payload:
            raise FieldRefused(f"payload.{_PERMIT}", "stands beside authorization")
        authorization = _permit(member(payload, _PERMIT, dict, "payload."))
    else:
        authorization = _authorization(
            member(payload, "authorization", dict, "payload.")
        )
    return authorization, hex_bytes(payload, "signature", "payload.")


def _permit(signed: Mapping[str, Any]) -> Permit2Authorization:
    path = f"payload.{_PERMIT}."
    permitted = member(signed, "permitted", dict, path)
    witness = member(signed, "witness", dict, path)
    return Permit2Authorization(
        payer=address(signed, "from", path),
        pay_to=address(witness, "to", f"{path}witness."),
        value=uint256(permitted, "amount", f"{path}permitted."),
        valid_after=uint256(witness, "validAfter", f"{path}witness."),
        valid_before=uint256(signed, "deadline", path),
        nonce=uint256(signed, "nonce", path).to_bytes(32, "big"),
        token=address(permitted, "token", f"{path}permitted."),
        spender=address(signed, "spender", path),
    )


def _authorization(signed: Mapping[str, Any]) -> Authorization:
    path = "payload.authorization."
    return Authorization(
        payer=address(signed, "from", path),
        pay_to=address(signed, "to", path),
        value=uint256(signed, "value", path),
        valid_after=uint256(signed, "validAfter", path),
        valid_before=uint256(signed, "validBefore", path),
        nonce=bytes32(signed, "nonce", path),
    )
