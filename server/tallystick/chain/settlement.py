"""The call that captures an authorization, and whether it would succeed now."""

import asyncio
from dataclasses import dataclass
from enum import StrEnum

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError

from tallystick.chain import abi
from tallystick.chain.authorization import AuthorizationFields
from tallystick.chain.deployment import (
    DEPLOYMENT_GAS_CAP,
    MULTICALL3,
    DeploymentFields,
    deploying_call,
    second_result,
)
from tallystick.chain.errors import GasAboveCap, RpcErrorAnswer
from tallystick.chain.fees import Fees
from tallystick.chain.hexadecimal import octets, quantity, to_hex
from tallystick.chain.rpc import Chain
from tallystick.chain.token import balance_of, nonce_used

KEY_SIGNATURE_BYTES = 65
KEY_GAS_CAP = 120_000
CONTRACT_GAS_CAP = 250_000
_TEXT_LIMIT = 200


class Refusal(StrEnum):
    """Why the token would refuse the capture now."""

    NONCE_USED = "nonce_used"
    INSUFFICIENT_FUNDS = "insufficient_funds"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    INVALID_SIGNATURE = "invalid_signature"
    BLACKLISTED = "blacklisted"
    NO_ALLOWANCE = "no_allowance"
    PAUSED = "paused"
    OTHER = "other"


# FiatToken's words, and those of tokens like it; in the order of what is meant first.
_WORDS = {
    "blacklist": Refusal.BLACKLISTED,
    "paused": Refusal.PAUSED,
    "signature": Refusal.INVALID_SIGNATURE,
    "used or canceled": Refusal.NONCE_USED,
    "exceeds balance": Refusal.INSUFFICIENT_FUNDS,
    "is expired": Refusal.EXPIRED,
    "not yet valid": Refusal.NOT_YET_VALID,
}


@dataclass(frozen=True, slots=True)
class Simulation:
    """The verdict of a rehearsal: no refusal, or why; ``text`` is the contract's."""

    refusal: Refusal | None = None
    text: str = ""

    @property
    def ok(self) -> bool:
        return self.refusal is None


def settlement_call(authorization: AuthorizationFields, signature: bytes) -> bytes:
    """Calldata of ``transferWithAuthorization`` (EIP-3009).

    65 bytes go as ``v, r, s``, exactly as signed; anything else is a contract wallet's
    and goes as ``bytes`` (FiatToken v2.2).
    """
    signed = (
        authorization.payer,
        authorization.pay_to,
        authorization.value,
        authorization.valid_after,
        authorization.valid_before,
        authorization.nonce,
    )
    if len(signature) != KEY_SIGNATURE_BYTES:
        arguments = encode(abi.TRANSFER_WITH_BYTES_TYPES, (*signed, signature))
        return abi.TRANSFER_WITH_BYTES + arguments
    vrs = (signature[64], signature[:32], signature[32:64])
    return abi.TRANSFER_WITH_VRS + encode(abi.TRANSFER_WITH_VRS_TYPES, (*signed, *vrs))


@dataclass(frozen=True, slots=True)
class Capture:
    """A call that captures an authorization, and whose it is to answer."""

    to: bytes
    calldata: bytes


def capture(
    chain: Chain,
    authorization: AuthorizationFields,
    signature: bytes,
    deployment: DeploymentFields | None = None,
    *,
    must_succeed: bool = True,
) -> Capture:
    """The call to send: to the token, after its payer's deployment if it needs one."""
    call = settlement_call(authorization, signature)
    if deployment is None:
        return Capture(chain.token, call)
    both = deploying_call(deployment, chain.token, call, must_succeed=must_succeed)
    return Capture(MULTICALL3, both)


def gas_cap(payer_code: bytes, *, deploys: bool = False) -> int:
    """The most gas that we pay for a settlement of a payer with this code.

    The token asks whoever has code whether he signed, a delegated key (EIP-7702) too,
    and however long the signature is: 65 bytes may be a contract wallet's. ``deploys``
    is for one whose contract is deployed with it.
    """
    if deploys:
        return DEPLOYMENT_GAS_CAP
    return CONTRACT_GAS_CAP if payer_code else KEY_GAS_CAP


async def simulate(
    chain: Chain,
    authorization: AuthorizationFields,
    signature: bytes,
    sender: bytes,
    *,
    deployment: DeploymentFields | None = None,
    fees: Fees | None = None,
) -> Simulation:
    """Rehearse the settlement on the newest block; nothing is sent.

    ``sender`` is the relayer. With ``fees`` the rehearsal names a gas price, so that a
    wallet which accepts only free calls gives itself away; the sender must then have
    the gas money. With a ``deployment`` both are rehearsed as one. Raises
    ``RpcUnavailable`` without an answer, ``RpcErrorAnswer`` when the node refused:
    neither says anything about the payment.
    """
    # It may fail here, so that it can say why.
    call = capture(
        chain, authorization, signature, deployment, must_succeed=deployment is None
    )
    request = _request(call, sender) | {"gas": hex(_most_gas(deployment))}
    if fees is not None:
        request |= fees.as_hex()
    try:
        answer = await chain.ask("eth_call", [request, "latest"], octets)
    except RpcErrorAnswer as error:
        if not error.is_revert:
            raise
        words = revert_words(error.revert_data, error.text)
        return await _diagnose(chain, authorization, words)
    if deployment is None:
        return Simulation()
    succeeded, returned = second_result(answer) or (False, b"")
    if succeeded:
        return Simulation()
    words = revert_words(returned, "not captured")
    return await _diagnose(chain, authorization, words)


async def estimate_gas(
    chain: Chain,
    authorization: AuthorizationFields,
    signature: bytes,
    sender: bytes,
    *,
    deployment: DeploymentFields | None = None,
    cap: int | None = None,
) -> int:
    """The gas limit to sign: the node's estimate and a fifth, at most the cap.

    ``cap`` overrides ``gas_cap``. Raises ``GasAboveCap`` when the estimate
    alone exceeds it, ``RpcErrorAnswer`` when the settlement would revert (``simulate``
    says why), ``RpcUnavailable``.
    """
    call = capture(chain, authorization, signature, deployment)
    request = _request(call, sender)
    code, estimate = await asyncio.gather(
        chain.code_at(authorization.payer),
        chain.ask("eth_estimateGas", [request], quantity),
    )
    limit = cap or gas_cap(code, deploys=deployment is not None)
    if estimate > limit:
        raise GasAboveCap(f"settling takes {estimate} gas, and {limit} is the most")
    return min(estimate * 6 // 5, limit)


def _most_gas(deployment: DeploymentFields | None) -> int:
    return CONTRACT_GAS_CAP if deployment is None else DEPLOYMENT_GAS_CAP


def _request(call: Capture, sender: bytes) -> dict[str, str]:
    return {
        "from": to_hex(sender),
        "to": to_hex(call.to),
        "data": to_hex(call.calldata),
    }


async def _diagnose(
    chain: Chain, authorization: AuthorizationFields, words: str
) -> Simulation:
    """Ask the chain's own state first, because words differ from token to token."""
    if await nonce_used(chain, authorization.payer, authorization.nonce):
        return Simulation(Refusal.NONCE_USED, words)
    head = await chain.block("latest")
    if head and head.timestamp_seconds >= authorization.valid_before:
        return Simulation(Refusal.EXPIRED, words)
    if head and head.timestamp_seconds <= authorization.valid_after:
        return Simulation(Refusal.NOT_YET_VALID, words)
    if await balance_of(chain, authorization.payer) < authorization.value:
        return Simulation(Refusal.INSUFFICIENT_FUNDS, words)
    meant = (refusal for word, refusal in _WORDS.items() if word in words.lower())
    return Simulation(next(meant, Refusal.OTHER), words)


def revert_words(revert_data: bytes, text: str) -> str:
    """The contract's own reason if it gave one as Error(string), else this text."""
    if revert_data[: abi.SELECTOR_BYTES] == abi.ERROR_STRING:
        try:
            (found,) = decode(("string",), revert_data[abi.SELECTOR_BYTES :])
        except (DecodingError, UnicodeDecodeError, OverflowError):
            return text[:_TEXT_LIMIT]
        return str(found)[:_TEXT_LIMIT]
    return text[:_TEXT_LIMIT]
