"""Signatures of wallets that are not deployed yet (ERC-6492).

``abi.encode(address factory, bytes calldata, bytes signature)`` and a magic suffix. The
call is the signer's word and could be any, so whoever makes it must know the factory.
"""

from dataclasses import dataclass, field
from typing import Final

WRAPPED_SUFFIX: Final = bytes.fromhex("6492" * 16)
"""The magic bytes at the end of a signature that comes with a deployment."""
_WORD: Final = 32
_HEAD_BYTES: Final = 3 * _WORD
_SELECTOR_BYTES: Final = 4
MOST_CALLDATA_BYTES: Final = 4096

Factory = tuple[bytes, bytes]
"""A contract that deploys wallets, and the selector of its function that does."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The call that deploys the wallet, and the signature that it will then take."""

    factory: bytes
    calldata: bytes
    inner: bytes = field(repr=False)

    @property
    def selector(self) -> bytes:
        """The four bytes that name the factory's function."""
        return self.calldata[:_SELECTOR_BYTES]


def is_wrapped(signature: bytes) -> bool:
    """Whether it has the magic suffix; what is before that may be anything."""
    return signature.endswith(WRAPPED_SUFFIX)


def unwrap(signature: bytes) -> Wrapped | None:
    """What is in it; None unless it is encoded in the one canonical way.

    Nor if the call is shorter than a selector or longer than 4 KiB, or if what is in it
    is wrapped again.
    """
    if not is_wrapped(signature):
        return None
    body = signature[: -len(WRAPPED_SUFFIX)]
    calldata = _bytes_at(body, _HEAD_BYTES)
    if calldata is None or not _SELECTOR_BYTES <= len(calldata) <= MOST_CALLDATA_BYTES:
        return None
    inner = _bytes_at(body, _HEAD_BYTES + len(_encoded(calldata)))
    if inner is None or is_wrapped(inner):
        return None
    found = Wrapped(body[_WORD - 20 : _WORD], calldata, inner)
    return found if wrap(found) == signature else None


def wrap(one: Wrapped) -> bytes:
    """As its signer sends it."""
    first = _encoded(one.calldata)
    offsets = (_HEAD_BYTES, _HEAD_BYTES + len(first))
    head = one.factory.rjust(_WORD, b"\0") + b"".join(map(_number, offsets))
    return head + first + _encoded(one.inner) + WRAPPED_SUFFIX


def _bytes_at(body: bytes, place: int) -> bytes | None:
    size = int.from_bytes(body[place : place + _WORD], "big")
    found = body[place + _WORD : place + _WORD + size] if size < len(body) else b""
    return found if len(found) == size else None


def _encoded(content: bytes) -> bytes:
    return _number(len(content)) + content + bytes(-len(content) % _WORD)


def _number(value: int) -> bytes:
    return value.to_bytes(_WORD, "big")
