"""Keccak-256, and the addresses that are written with it.

A signature check needs three hashes beside one recovery of 33 µs, so the hash counts.
Measured on 66 bytes: ``eth_hash.auto`` 4.4 µs, pycryptodome's public class 4.0 µs, the
C functions beneath that class with a state that is kept 1.6 µs.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from threading import local
from typing import Any, Final

from Crypto.Hash import keccak
from Crypto.Util import _raw_api

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


def _public_keccak256(message: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=message).digest()


class _Sponge(local):
    """The C functions of pycryptodome, with one state for each thread.

    They release the GIL, so two threads must not share a state.
    """

    def __init__(self) -> None:
        functions: Any = keccak._raw_keccak_lib  # type: ignore[attr-defined]  # noqa: SLF001 - see the module
        pointer = _raw_api.VoidPointer()
        functions.keccak_init(pointer.address_of(), 64, 24)
        self._owner = _raw_api.SmartPointer(pointer.get(), functions.keccak_destroy)
        self._state = self._owner.get()
        self._digest = _raw_api.create_string_buffer(32, None)
        self._reset, self._absorb = functions.keccak_reset, functions.keccak_absorb
        self._squeeze = functions.keccak_digest

    def keccak256(self, message: bytes) -> bytes:
        state, digest = self._state, self._digest
        failed = (
            self._reset(state)
            or self._absorb(state, message, len(message))
            or self._squeeze(state, digest, 32, 1)
        )
        assert not failed, "keccak takes any bytes"
        return _raw_api.get_raw_buffer(digest)


def _fastest() -> Callable[[bytes], bytes]:
    """The C functions if they are still what they were, else the public class."""
    # cffi checks every call against the declared types; ctypes, which takes its
    # place under python -OO, would corrupt memory after a change.
    if _raw_api.backend != "cffi":
        return _public_keccak256
    probe = bytes(range(200))
    try:
        fast = _Sponge().keccak256
        return fast if fast(probe) == _public_keccak256(probe) else _public_keccak256
    except Exception:  # noqa: BLE001 - whatever has changed, the public class works
        return _public_keccak256


_keccak256: Final = _fastest()


def keccak256(message: bytes) -> bytes:
    """32 bytes; the original Keccak of Ethereum, not the later SHA3-256."""
    return _keccak256(message)


@lru_cache(maxsize=4096)
def checksum_address(address: bytes) -> str:
    """The 20 bytes as text with EIP-55's checksum in the case of its letters.

    Clients of protocol version 1 compare assets as text, so the case matters.
    """
    assert len(address) == 20, "an address has 20 bytes"
    digits = address.hex()
    marks = keccak256(digits.encode()).hex()
    return "0x" + "".join(
        digit.upper() if mark >= "8" else digit
        for digit, mark in zip(digits, marks, strict=False)
    )


def read_address(text: object) -> bytes:
    """The 20 bytes of an address as people write it; mixed case must be EIP-55's.

    Raises ``ValueError``, whose words say what is wrong and not what was given.
    """
    if not isinstance(text, str) or not _ADDRESS.fullmatch(text):
        raise ValueError("is no address (0x and 40 hex digits)")
    digits = text[2:]
    address = bytes.fromhex(digits)
    is_one_case = digits in (digits.lower(), digits.upper())
    if not is_one_case and checksum_address(address) != text:
        raise ValueError("has a wrong checksum (EIP-55)")
    return address
