"""What a facilitator is asked, and what its answers are worth (x402 v2, section 7).

A facilitator may be wrong, broken or malicious, so nothing here says that money moved.
An answer only tells when to look at the chain, and which transaction it names.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from tallystick.kernel.json import loads_strictly
from tallystick.x402.fields import FieldRefused, address, bytes32
from tallystick.x402.keccak import checksum_address
from tallystick.x402.networks import NETWORKS
from tallystick.x402.wire import EXACT, Authorization, PaymentTerms, Version

_DEEPEST: Final = 16
_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}")
_PENDING: Final = frozenset({"settlement_pending", "transaction_pending", "pending"})
"""What the SDK's facilitators and Coinbase's say while a transaction is under way."""
_NOT_SETTLED: Final = frozenset({400, 401, 402, 403, 404, 405, 413, 415, 422, 429})
"""A refusal of the request. Others, such as 408 and 409, may follow a settlement."""


class AnswerKind(StrEnum):
    """What a facilitator says of a settlement. None of it is a fact."""

    SETTLED = "settled"
    """It names the transaction that is said to have moved the money."""
    PENDING = "pending"
    """It is at it."""
    FAILED = "failed"
    """It will not settle this."""
    UNCLEAR = "unclear"
    """Nothing that can be believed; it may have settled all the same."""
    UNREACHABLE = "unreachable"
    """Nobody took the request."""


@dataclass(frozen=True, slots=True)
class SettleAnswer:
    """``tx_hash`` is the transaction that was named, ``reason`` a word of at most 80.

    ``status`` is HTTP's, None when no answer came.
    """

    kind: AnswerKind
    status: int | None = None
    reason: str | None = None
    tx_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class SettleRequest:
    """One authorization that a facilitator shall submit. Asked again, it is the same.

    ``resource_url`` goes to facilitators of version 1, whose requests must have one.
    """

    terms: PaymentTerms
    authorization: Authorization
    signature: bytes = field(repr=False)
    resource_url: str

    def document(self, version: Version) -> dict[str, Any]:
        """The body of ``POST /settle``, always with the same members."""
        proof = {"signature": f"0x{self.signature.hex()}", **self._authorization()}
        if version == 1:
            name = NETWORKS[self.terms.network].v1_name
            payload = {"scheme": EXACT, "network": name, "payload": proof}
            wanted = self._requirements_v1(name)
        else:
            # Coinbase's refuses members beyond these three (x402 issue 2832).
            wanted = self._requirements()
            payload = {"payload": proof, "accepted": wanted}
        return {
            "x402Version": version,
            "paymentPayload": {"x402Version": version, **payload},
            "paymentRequirements": wanted,
        }

    def _authorization(self) -> dict[str, Any]:
        signed = self.authorization
        return {
            "authorization": {
                "from": checksum_address(signed.payer),
                "to": checksum_address(signed.pay_to),
                "value": str(signed.value),
                "validAfter": str(signed.valid_after),
                "validBefore": str(signed.valid_before),
                "nonce": f"0x{signed.nonce.hex()}",
            }
        }

    def _requirements(self) -> dict[str, Any]:
        return {
            "scheme": EXACT,
            "network": self.terms.network,
            "asset": checksum_address(self.terms.asset),
            "amount": str(self.terms.amount),
            "payTo": checksum_address(self.terms.pay_to),
            "maxTimeoutSeconds": self.terms.max_timeout_seconds,
            "extra": self.terms.full_extra(),
        }

    def _requirements_v1(self, network: str) -> dict[str, Any]:
        wanted = self._requirements()
        del wanted["amount"]
        return wanted | {
            "network": network,
            "maxAmountRequired": str(self.terms.amount),
            "resource": self.resource_url,
            "description": "Credits",
            "mimeType": "application/json",
        }


def read_settle_answer(
    status: int, body: bytes, request: SettleRequest
) -> SettleAnswer:
    """The answer to ``POST /settle``, in whatever HTTP status it came; never raises."""
    said = _object(body)
    if said is None:
        return SettleAnswer(_by_status(status), status, "no_json")
    if _contradicts(said, request):
        return SettleAnswer(AnswerKind.UNCLEAR, status, "another_payment")
    reason, tx_hash = _reason(said), _tx_hash(said)
    kind = _kind(status, said, reason, names=tx_hash is not None)
    return SettleAnswer(kind, status, reason, tx_hash)


def _kind(
    status: int, said: dict[str, Any], reason: str | None, *, names: bool
) -> AnswerKind:
    if reason in _PENDING or said.get("status") == "pending":
        return AnswerKind.PENDING  # Coinbase's says so with an HTTP 500
    if said.get("success") is True:
        is_whole = names and 200 <= status < 300
        return AnswerKind.SETTLED if is_whole else AnswerKind.UNCLEAR
    if said.get("success") is False and status == 200:
        return AnswerKind.FAILED
    return _by_status(status)


def _by_status(status: int) -> AnswerKind:
    return AnswerKind.FAILED if status in _NOT_SETTLED else AnswerKind.UNCLEAR


def _contradicts(said: dict[str, Any], request: SettleRequest) -> bool:
    """Whether it speaks of another payment; what it leaves out or empty says nothing."""
    network = request.terms.network
    networks = (network, NETWORKS[network].v1_name)  # no set: it may name a list
    payer = f"0x{request.authorization.payer.hex()}"
    told_payer = said.get("payer") or payer
    return (
        (said.get("network") or network) not in networks
        or not isinstance(told_payer, str)
        or told_payer.lower() != payer
        or str(said.get("amount") or request.terms.amount) != str(request.terms.amount)
    )


def _reason(said: dict[str, Any]) -> str | None:
    """Its word for what went wrong; never its sentences, which may hold anything."""
    told = (said.get(name) for name in ("errorReason", "error", "errorType", "reason"))
    first = next((one for one in told if one), None)
    if first is None:
        return None
    is_word = isinstance(first, str) and _WORD.fullmatch(first)
    return str(first) if is_word else "unreadable"


def _tx_hash(said: dict[str, Any]) -> bytes | None:
    for name in ("transaction", "txHash", "transactionHash"):
        try:
            found = bytes32(said, name)
        except FieldRefused:
            continue
        if any(found):
            return found
    return None


@dataclass(frozen=True, slots=True)
class Supported:
    """What a facilitator settles, and the addresses that it submits with.

    ``kinds`` are version, scheme and network.
    """

    kinds: frozenset[tuple[int, str, str]]
    signers: frozenset[bytes]

    def version_for(self, network: str) -> Version | None:
        """The newest version in which it settles exact payments on the network."""
        family = f"{network.split(':', maxsplit=1)[0]}:*"
        if self.kinds & {(2, EXACT, network), (2, EXACT, family)}:
            return 2
        v1_name = NETWORKS[network].v1_name
        return 1 if (1, EXACT, v1_name) in self.kinds else None


def read_supported(body: bytes, network: str) -> Supported | None:
    """The answer to ``GET /supported``; None for what cannot be read.

    Signers are those of the network or its family (``eip155:*``); entries that cannot
    be read are left out.
    """
    said = _object(body)
    if said is None or not isinstance(said.get("kinds"), list):
        return None
    kinds = frozenset(
        (one["x402Version"], one["scheme"], one["network"])
        for one in said["kinds"]
        if isinstance(one, dict)
        and type(one.get("x402Version")) is int
        and isinstance(one.get("scheme"), str)
        and isinstance(one.get("network"), str)
    )
    return Supported(kinds, frozenset(_signers(said.get("signers"), network)))


def _signers(told: Any, network: str) -> list[bytes]:
    family = network.split(":", maxsplit=1)[0]
    found = []
    for name in (network, f"{family}:*", family):
        listed = told.get(name) if isinstance(told, dict) else None
        for one in listed if isinstance(listed, list) else ():
            try:
                found.append(address({"signer": one}, "signer"))
            except FieldRefused:
                continue
    return found


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        said = loads_strictly(body.decode(), deepest=_DEEPEST)
    except ValueError:  # no UTF-8, no JSON, JSON of two readings
        return None
    return said if isinstance(said, dict) else None
