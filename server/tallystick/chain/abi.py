"""The few functions and events of the token that we use, by their hashes.

Sources: EIP-20, EIP-712, EIP-1271, EIP-3009, FiatToken v2.2 for the forms that take the
signature as ``bytes``, and Multicall3.
"""

from eth_utils.crypto import keccak

SELECTOR_BYTES = 4
WORD_BYTES = 32

_WINDOW = "address,address,uint256,uint256,uint256,bytes32"
TRANSFER_WITH_VRS_TYPES = (*_WINDOW.split(","), "uint8", "bytes32", "bytes32")
TRANSFER_WITH_BYTES_TYPES = (*_WINDOW.split(","), "bytes")


def selector(signature: str) -> bytes:
    """The four bytes that call the function with this signature."""
    return keccak(text=signature)[:SELECTOR_BYTES]


def topic(signature: str) -> bytes:
    """The first topic of the event with this signature."""
    return keccak(text=signature)


def word(value: bytes | int) -> bytes:
    """An address, number or hash as a left-padded ABI word."""
    found = value if isinstance(value, bytes) else value.to_bytes(WORD_BYTES, "big")
    return found.rjust(WORD_BYTES, b"\0")


NAME = selector("name()")
SYMBOL = selector("symbol()")
VERSION = selector("version()")
DECIMALS = selector("decimals()")
DOMAIN_SEPARATOR = selector("DOMAIN_SEPARATOR()")
BALANCE_OF = selector("balanceOf(address)")
AUTHORIZATION_STATE = selector("authorizationState(address,bytes32)")
TRANSFER_WITH_VRS = selector(
    f"transferWithAuthorization({','.join(TRANSFER_WITH_VRS_TYPES)})"
)
TRANSFER_WITH_BYTES = selector(
    f"transferWithAuthorization({','.join(TRANSFER_WITH_BYTES_TYPES)})"
)
IS_VALID_SIGNATURE = selector("isValidSignature(bytes32,bytes)")
AGGREGATE3 = selector("aggregate3((address,bool,bytes)[])")
ERROR_STRING = selector("Error(string)")

TRANSFER = topic("Transfer(address,address,uint256)")
AUTHORIZATION_USED = topic("AuthorizationUsed(address,bytes32)")
AUTHORIZATION_CANCELED = topic("AuthorizationCanceled(address,bytes32)")
