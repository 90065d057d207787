"""EIP-712 digests of EIP-3009 authorizations, by hand.

The general encoder of eth_account takes 135 µs for what takes about 10 µs here,
because the domain is hashed once per token and the struct has only static words.
"""

from typing import Final, Literal

from tallystick.x402.keccak import keccak256
from tallystick.x402.wire import Authorization, TokenDomain

PrimaryType = Literal["TransferWithAuthorization", "ReceiveWithAuthorization"]

_FIELDS = (
    "(address from,address to,uint256 value,"
    "uint256 validAfter,uint256 validBefore,bytes32 nonce)"
)
_TYPE_HASHES: Final[dict[PrimaryType, bytes]] = {
    "TransferWithAuthorization": keccak256(
        f"TransferWithAuthorization{_FIELDS}".encode()
    ),
    "ReceiveWithAuthorization": keccak256(
        f"ReceiveWithAuthorization{_FIELDS}".encode()
    ),
}
_PADDING: Final = bytes(12)


def authorization_digest(
    domain: TokenDomain,
    authorization: Authorization,
    primary_type: PrimaryType = "TransferWithAuthorization",
) -> bytes:
    """The 32 bytes that the payer signs (EIP-712 over the struct of EIP-3009)."""
    struct = b"".join(
        (
            _TYPE_HASHES[primary_type],
            _PADDING,
            authorization.payer,
            _PADDING,
            authorization.pay_to,
            authorization.value.to_bytes(32, "big"),
            authorization.valid_after.to_bytes(32, "big"),
            authorization.valid_before.to_bytes(32, "big"),
            authorization.nonce,
        )
    )
    assert len(struct) == 7 * 32, "every field is one word"
    return keccak256(b"\x19\x01" + domain.separator() + keccak256(struct))
