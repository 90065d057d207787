"""What is signed for a payback: an authorization, or a Safe's batch. Pure.

The nonce is made of the purchase's own authorization, or of the place on the chain of a
plain Transfer, and of the payback's number, which a restored database counts again: so
books of before a backup cannot pay twice, either.
"""

from collections.abc import Sequence
from typing import Any

from tallystick.payments.models.chain import ChainTransfer
from tallystick.payments.models.paybacks import Payback
from tallystick.payments.models.topups import TopUp
from tallystick.x402.keccak import checksum_address, keccak256
from tallystick.x402.wire import Authorization, TokenDomain

_TAG = b"tallystick payback 1"
_TRANSFER_TAG = b"tallystick payback of a transfer 1"
_ADDRESS = {"internalType": "address", "name": "to", "type": "address"}
_VALUE = {"internalType": "uint256", "name": "value", "type": "uint256"}
_TRANSFER = {"inputs": [_ADDRESS, _VALUE], "name": "transfer", "payable": False}


def payback_nonce(topup: TopUp, number: int) -> bytes:
    """EIP-3009's nonce of the top-up's payback of that number."""
    return keccak256(
        _TAG
        + topup.chain_id.to_bytes(32, "big")
        + (topup.authority or topup.token)
        + topup.payer
        + topup.nonce
        + number.to_bytes(8, "big")
    )


def transfer_payback_nonce(paid: ChainTransfer, number: int) -> bytes:
    """The same of a plain Transfer, which has no authorization but a place for good."""
    return keccak256(
        _TRANSFER_TAG
        + paid.chain_id.to_bytes(32, "big")
        + paid.token
        + paid.tx_hash
        + paid.log_index.to_bytes(8, "big")
        + number.to_bytes(8, "big")
    )


def authorization_of(payback: Payback) -> Authorization:
    """What the paying key signs, of a payback that was issued for it."""
    assert payback.from_address is not None, "it was issued"
    assert payback.valid_before is not None, "a Safe signs no authorization"
    return Authorization(
        bytes(payback.from_address),
        bytes(payback.to_address),
        payback.usdc,
        0,
        payback.valid_before,
        bytes(payback.nonce),
    )


def typed_data(domain: TokenDomain, terms: Authorization) -> dict[str, Any]:
    """The request of ``eth_signTypedData_v4`` (EIP-712) for the authorization."""
    return {
        "types": {
            "EIP712Domain": _members(
                name="string",
                version="string",
                chainId="uint256",
                verifyingContract="address",
            ),
            "TransferWithAuthorization": _members(
                **{"from": "address"},
                to="address",
                value="uint256",
                validAfter="uint256",
                validBefore="uint256",
                nonce="bytes32",
            ),
        },
        "primaryType": "TransferWithAuthorization",
        "domain": {
            "name": domain.name,
            "version": domain.version,
            "chainId": domain.chain_id,
            "verifyingContract": checksum_address(domain.contract),
        },
        "message": {
            "from": checksum_address(terms.payer),
            "to": checksum_address(terms.pay_to),
            "value": str(terms.value),
            "validAfter": str(terms.valid_after),
            "validBefore": str(terms.valid_before),
            "nonce": f"0x{terms.nonce.hex()}",
        },
    }


def _members(**types: str) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in types.items()]


def safe_batch(
    domain: TokenDomain, safe: bytes, paybacks: Sequence[Payback], *, now_ms: int
) -> dict[str, Any]:
    """A file for Safe's Transaction Builder: one plain transfer for each payback.

    Its format is version 1.0 of safe-global's tx-builder (``BatchFile``).
    """
    return {
        "version": "1.0",
        "chainId": str(domain.chain_id),
        "createdAt": now_ms,
        "meta": {
            "name": "Tallystick paybacks",
            "description": "Unused credits back to the wallets that paid for them",
            "createdFromSafeAddress": checksum_address(safe),
        },
        "transactions": [
            {
                "to": checksum_address(domain.contract),
                "value": "0",
                "data": None,
                "contractMethod": _TRANSFER,
                "contractInputsValues": {
                    "to": checksum_address(bytes(one.to_address)),
                    "value": str(one.usdc),
                },
            }
            for one in paybacks
        ],
    }
