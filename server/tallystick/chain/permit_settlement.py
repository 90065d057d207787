"""Settling a permit by x402's proxy: whether it would succeed now, and what it costs."""

import asyncio

from tallystick.chain import abi
from tallystick.chain.authorization import AuthorizationFields
from tallystick.chain.errors import GasAboveCap, RpcErrorAnswer
from tallystick.chain.hexadecimal import octets, quantity, to_hex
from tallystick.chain.permit2 import (
    EXACT_PROXY,
    allowance_to_permit2,
    permit_call,
    permit_used,
)
from tallystick.chain.rpc import Chain
from tallystick.chain.settlement import (
    CONTRACT_GAS_CAP,
    Capture,
    Refusal,
    Simulation,
    revert_words,
)
from tallystick.chain.token import balance_of

PERMIT_KEY_GAS_CAP = 150_000
"""For a payer without code: it takes about 100,000, as every nonce has a word of its own.

Payers with code have the cap that they have by EIP-3009, so that the dearest settlement
of all stays the same.
"""
_SIGNATURE_ERRORS = frozenset(
    abi.selector(f"{name}()")
    for name in (
        "InvalidSigner",
        "InvalidSignature",
        "InvalidSignatureLength",
        "InvalidContractSignature",
    )
)


def permit_capture(
    chain: Chain, permit: AuthorizationFields, signature: bytes
) -> Capture:
    """The call to send: to the proxy, which alone was signed as the spender."""
    return Capture(EXACT_PROXY, permit_call(permit, signature, chain.token))


async def simulate_permit(
    chain: Chain, permit: AuthorizationFields, signature: bytes, sender: bytes
) -> Simulation:
    """Rehearse the settlement on the newest block; nothing is sent.

    Raises ``RpcUnavailable`` without an answer, ``RpcErrorAnswer`` when the node
    refused: neither says anything about the payment.
    """
    request = _request(chain, permit, signature, sender)
    request |= {"gas": hex(CONTRACT_GAS_CAP)}
    try:
        await chain.ask("eth_call", [request, "latest"], octets)
    except RpcErrorAnswer as error:
        if not error.is_revert:
            raise
        return await _diagnose(chain, permit, error)
    return Simulation()


async def estimate_permit_gas(
    chain: Chain, permit: AuthorizationFields, signature: bytes, sender: bytes
) -> int:
    """The gas limit to sign: the node's estimate and a fifth, at most the cap.

    Raises ``GasAboveCap`` when the estimate alone exceeds it, ``RpcErrorAnswer`` when
    the settlement would revert, ``RpcUnavailable``.
    """
    request = _request(chain, permit, signature, sender)
    code, estimate = await asyncio.gather(
        chain.code_at(permit.payer), chain.ask("eth_estimateGas", [request], quantity)
    )
    limit = CONTRACT_GAS_CAP if code else PERMIT_KEY_GAS_CAP
    if estimate > limit:
        raise GasAboveCap(f"settling takes {estimate} gas, and {limit} is the most")
    return min(estimate * 6 // 5, limit)


def _request(
    chain: Chain, permit: AuthorizationFields, signature: bytes, sender: bytes
) -> dict[str, str]:
    call = permit_capture(chain, permit, signature)
    return {
        "from": to_hex(sender),
        "to": to_hex(call.to),
        "data": to_hex(call.calldata),
    }


async def _diagnose(
    chain: Chain, permit: AuthorizationFields, error: RpcErrorAnswer
) -> Simulation:
    """Ask the chain's own state: Permit2 hides the token's reasons."""
    words = revert_words(error.revert_data, error.text)
    if await permit_used(chain, permit.payer, permit.nonce):
        return Simulation(Refusal.NONCE_USED, words)
    head = await chain.block("latest")
    if head and head.timestamp_seconds > permit.valid_before:
        return Simulation(Refusal.EXPIRED, words)
    if head and head.timestamp_seconds < permit.valid_after:
        return Simulation(Refusal.NOT_YET_VALID, words)
    if await balance_of(chain, permit.payer) < permit.value:
        return Simulation(Refusal.INSUFFICIENT_FUNDS, words)
    if await allowance_to_permit2(chain, permit.payer) < permit.value:
        return Simulation(Refusal.NO_ALLOWANCE, words)
    if error.revert_data[: abi.SELECTOR_BYTES] in _SIGNATURE_ERRORS:
        return Simulation(Refusal.INVALID_SIGNATURE, words)
    return Simulation(Refusal.OTHER, words)
