"""What a seller's server asks of a facilitator, and how it is answered (x402, section 7).

The other side of ``settle_wire``: here we are the facilitator. The seller's server is
known; what it passes on comes from a buyer, and is read as strictly as our own payments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tallystick.kernel.money import AMOUNT_LIMIT
from tallystick.x402 import reasons
from tallystick.x402.errors import MalformedSettleRequest, PaymentRejected
from tallystick.x402.fields import FieldRefused, member
from tallystick.x402.headers import read_payment, read_terms
from tallystick.x402.keccak import checksum_address
from tallystick.x402.networks import NETWORKS, NETWORKS_BY_V1_NAME
from tallystick.x402.permit2 import Permit2Authorization
from tallystick.x402.wire import (
    EXACT,
    AcceptedTerms,
    PaymentPayload,
    TokenDomain,
    Version,
)

_EIP3009: Final = "eip3009"
_VERIFIES_FIRST: Final = "authorization"
"""Other flows settle without /verify, and ours says success again and again."""
_VERSIONS: Final[dict[int, Version]] = {1: 1, 2: 2}


@dataclass(frozen=True, slots=True)
class Asked:
    """A payment, and the terms on which a seller wants it verified or settled."""

    version: Version
    payload: PaymentPayload
    wanted: AcceptedTerms

    @property
    def payer(self) -> str:
        """Its address, as answers name it."""
        return checksum_address(self.payload.authorization.payer)

    @property
    def network(self) -> str:
        """The chain, by the name that this version has for it."""
        known = NETWORKS.get(self.wanted.network)
        if self.version == 1 and known is not None:
            return known.v1_name
        return self.wanted.network


def read_asked(document: Any) -> Asked:
    """The body of ``POST /verify`` and ``POST /settle``.

    Raises ``MalformedSettleRequest`` where the seller's server is at fault, and
    ``PaymentRejected`` for a payment or terms that cannot be read.
    """
    if type(document) is not dict:
        raise MalformedSettleRequest("the body", "must be an object")
    try:
        number = member(document, "x402Version", int)
        payment = member(document, "paymentPayload", dict)
        wanted = member(document, "paymentRequirements", dict)
    except FieldRefused as refusal:
        raise MalformedSettleRequest(refusal.field, refusal.problem) from None
    version = _VERSIONS.get(number)
    if version is None:
        raise PaymentRejected(reasons.INVALID_X402_VERSION, "x402Version is not 1 or 2")
    return Asked(version, _payment(payment, version), _terms(wanted, version))


def _payment(document: Mapping[str, Any], version: Version) -> PaymentPayload:
    try:
        payload = read_payment(document, version)
    except FieldRefused as refusal:
        problem = f"paymentPayload.{refusal.field} {refusal.problem}"
        raise PaymentRejected(reasons.INVALID_PAYLOAD, problem) from None
    if isinstance(payload.authorization, Permit2Authorization):
        raise _unfit("payments by Permit2 are not settled for other sellers here")
    return payload


def _terms(entry: Mapping[str, Any], version: Version) -> AcceptedTerms:
    path = "paymentRequirements."
    try:
        return read_terms(entry if version == 2 else _as_v2(entry), path)
    except FieldRefused as refusal:
        problem = f"{refusal.field} {refusal.problem}"
        raise PaymentRejected(reasons.INVALID_PAYMENT_REQUIREMENTS, problem) from None


def _as_v2(entry: Mapping[str, Any]) -> dict[str, Any]:
    network = NETWORKS_BY_V1_NAME.get(str(entry.get("network")))
    if network is None:
        raise PaymentRejected(reasons.INVALID_NETWORK, "network is not supported here")
    amount = {"amount": entry.get("maxAmountRequired")}
    return {**entry, **amount, "network": network.caip2}


def check_terms(asked: Asked, domain: TokenDomain) -> None:
    """Whether the terms are ones that we settle, and the payment fits them.

    Exact means equal, in version 1 too. What ``extra`` says of the token is never used:
    it is ours or refused. Raises ``PaymentRejected``.
    """
    wanted, signed = asked.wanted, asked.payload.authorization
    if {wanted.network, asked.payload.network} != {domain.network}:
        raise PaymentRejected(reasons.INVALID_NETWORK, "network is not supported here")
    if wanted.asset != domain.contract:
        raise _unfit("asset is not a token that is settled here")
    _check_extra(wanted.extra, domain)
    if asked.payload.accepted is not None:
        _check_accepted(asked.payload.accepted, wanted)
    if signed.pay_to != wanted.pay_to:
        raise PaymentRejected(
            reasons.RECIPIENT_MISMATCH, "authorization.to is not payTo"
        )
    if not 0 < wanted.amount < AMOUNT_LIMIT:
        raise _unfit("amount is no possible amount")
    if signed.value != wanted.amount:
        raise PaymentRejected(
            reasons.VALUE, "authorization.value is not exactly the amount"
        )


def _check_extra(extra: Mapping[str, Any], domain: TokenDomain) -> None:
    ours = {
        "name": domain.name,
        "version": domain.version,
        "assetTransferMethod": _EIP3009,
        "paymentFlow": _VERIFIES_FIRST,
    }
    for name, value in ours.items():
        if extra.get(name, value) != value:
            raise _unfit(f"extra.{name} is not {value!r}, which alone is settled here")


def _check_accepted(accepted: AcceptedTerms, wanted: AcceptedTerms) -> None:
    for name in ("network", "amount", "asset", "pay_to", "max_timeout_seconds"):
        if getattr(accepted, name) != getattr(wanted, name):
            raise _unfit(f"{name} in accepted is not what is required")


def _unfit(problem: str) -> PaymentRejected:
    return PaymentRejected(reasons.INVALID_PAYMENT_REQUIREMENTS, problem)


def supported_answer(network: str, signers: list[bytes]) -> dict[str, Any]:
    """What ``GET /supported`` says: both versions, the extensions, who submits."""
    names = {2: network, 1: NETWORKS[network].v1_name}
    return {
        "kinds": [
            {"x402Version": version, "scheme": EXACT, "network": name}
            for version, name in names.items()
        ],
        "extensions": [],
        "signers": {"eip155:*": [checksum_address(one) for one in signers]},
    }


def verified(payer: str) -> dict[str, Any]:
    """The answer to ``POST /verify`` for a payment that can be settled now."""
    return {"isValid": True, "payer": payer}


def not_verified(refused: PaymentRejected, payer: str | None) -> dict[str, Any]:
    """The answer to ``POST /verify`` for one that cannot."""
    return {
        "isValid": False,
        "invalidReason": refused.reason,
        "invalidMessage": refused.detail,
        **_named(payer),
    }


def settled(asked: Asked, tx_hash: bytes) -> dict[str, Any]:
    """The answer to ``POST /settle`` once the money has arrived."""
    return {
        "success": True,
        "transaction": f"0x{tx_hash.hex()}",
        "network": asked.network,
        "payer": asked.payer,
        "amount": str(asked.wanted.amount),
    }


def pending(asked: Asked, tx_hash: bytes | None) -> dict[str, Any]:
    """The answer while nobody knows; ``tx_hash`` is what was signed last, if anything.

    Stock servers ask once more when a transaction is named.
    """
    return {
        "success": False,
        "errorReason": reasons.SETTLEMENT_PENDING,
        "errorMessage": "it is being settled; ask again with the same payment",
        "transaction": f"0x{tx_hash.hex()}" if tx_hash else "",
        "network": asked.network,
        "payer": asked.payer,
    }


def not_settled(
    refused: PaymentRejected, network: str, payer: str | None
) -> dict[str, Any]:
    """The answer to ``POST /settle`` once it is certain that no money arrives."""
    return {
        "success": False,
        "errorReason": refused.reason,
        "errorMessage": refused.detail,
        "transaction": "",
        "network": network,
        **_named(payer),
    }


def _named(payer: str | None) -> dict[str, str]:
    return {} if payer is None else {"payer": payer}
