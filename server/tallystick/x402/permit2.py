"""What a payer signs for Permit2: a transfer by x402's proxy, to whom the witness names.

Specification of the scheme "exact" on EVM, asset transfer method ``permit2``. Permit2
keeps the nonces of an owner for all tokens together, and in no order.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tallystick.x402 import reasons
from tallystick.x402.eip712 import authorization_digest
from tallystick.x402.keccak import keccak256
from tallystick.x402.wire import Authorization, TokenDomain

PERMIT2: Final = bytes.fromhex("000000000022d473030f116ddee9f6b43ac78ba3")
"""Where Permit2 is on every chain."""
EXACT_PROXY: Final = bytes.fromhex("402085c248eea27d92e8b30b2c58ed07f9e20001")
"""Where x402ExactPermit2Proxy is: the only spender that is accepted."""
METHOD_KEY: Final = "assetTransferMethod"
METHOD: Final = "permit2"

_PADDING: Final = bytes(12)
_DOMAIN_TYPE = keccak256(
    b"EIP712Domain(string name,uint256 chainId,address verifyingContract)"
)
_NAME = keccak256(b"Permit2")
_PERMISSIONS_TYPE: Final = b"TokenPermissions(address token,uint256 amount)"
_WITNESS_TYPE: Final = b"Witness(address to,uint256 validAfter)"
_PERMISSIONS_HASH = keccak256(_PERMISSIONS_TYPE)
_WITNESS_HASH = keccak256(_WITNESS_TYPE)
_PERMIT_HASH = keccak256(
    b"PermitWitnessTransferFrom(TokenPermissions permitted,address spender,"
    b"uint256 nonce,uint256 deadline,Witness witness)"
    + _PERMISSIONS_TYPE
    + _WITNESS_TYPE
)


@dataclass(frozen=True, slots=True)
class Permit2Authorization(Authorization):
    """A transfer by Permit2 as its payer signs it, in the words of an authorization.

    ``pay_to`` and ``valid_after`` are the witness, ``value`` is what is permitted,
    ``valid_before`` the deadline, which is itself in time. ``token`` and ``spender``
    are only what was signed.
    """

    token: bytes
    spender: bytes


def digest_of(domain: TokenDomain, signed: Authorization) -> bytes:
    """The 32 bytes that the payer signs, whichever method he pays by."""
    if isinstance(signed, Permit2Authorization):
        return permit_digest(domain.chain_id, signed)
    return authorization_digest(domain, signed)


def authority_of(domain: TokenDomain, signed: Authorization) -> bytes:
    """The contract that lets its nonce be used once: Permit2, or the token itself."""
    return PERMIT2 if isinstance(signed, Permit2Authorization) else domain.contract


def signature_reason(signed: Authorization) -> str:
    """The code for a signature that is not the payer's."""
    is_permit = isinstance(signed, Permit2Authorization)
    return reasons.PERMIT2_SIGNATURE if is_permit else reasons.SIGNATURE


def permit_digest(chain_id: int, signed: Permit2Authorization) -> bytes:
    """EIP-712 over ``PermitWitnessTransferFrom``; Permit2's domain has no version."""
    struct = b"".join(
        (
            _PERMIT_HASH,
            _struct(_PERMISSIONS_HASH, signed.token, signed.value),
            _PADDING,
            signed.spender,
            signed.nonce,
            signed.valid_before.to_bytes(32, "big"),
            _struct(_WITNESS_HASH, signed.pay_to, signed.valid_after),
        )
    )
    assert len(struct) == 6 * 32, "every field is one word"
    return keccak256(b"\x19\x01" + permit2_separator(chain_id) + keccak256(struct))


def _struct(type_hash: bytes, address: bytes, number: int) -> bytes:
    return keccak256(type_hash + _PADDING + address + number.to_bytes(32, "big"))


@lru_cache(maxsize=8)
def permit2_separator(chain_id: int) -> bytes:
    """The 32 bytes of Permit2's domain on a chain (EIP-712)."""
    words = (_DOMAIN_TYPE, _NAME, chain_id.to_bytes(32, "big"), _PADDING + PERMIT2)
    return keccak256(b"".join(words))
