"""Reading single fields of a decoded header into canonical values.

Every reader takes the object, the key and the path of the object, and raises
``FieldRefused``, whose words name the field and never repeat its value.
"""

import re
from binascii import Error as HexError
from binascii import a2b_hex
from collections.abc import Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T")

# At most 78 digits, so that int() never sees more than it reads at once.
_UINT: Final = re.compile(r"0|[1-9][0-9]{0,77}")
_NAMES: Final = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "an integer",
}


class FieldRefused(ValueError):
    """A field that cannot be read; the door turns it into an error of its own."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem


def member(parent: Mapping[str, Any], key: str, kind: type[T], path: str = "") -> T:
    """The member, if it has exactly this JSON type (true is no integer)."""
    value = parent.get(key)
    if type(value) is not kind:
        problem = f"must be {_NAMES[kind]}" if key in parent else "is missing"
        raise FieldRefused(f"{path}{key}", problem)
    return value


def optional_member(
    parent: Mapping[str, Any], key: str, kind: type[T], path: str = ""
) -> T | None:
    """The member, or ``None`` where it is absent or null."""
    return None if parent.get(key) is None else member(parent, key, kind, path)


def plain_text(parent: Mapping[str, Any], key: str, path: str = "") -> str:
    """A string without control characters and lone surrogates."""
    text = member(parent, key, str, path)
    if not text.isprintable():
        raise FieldRefused(f"{path}{key}", "is not printable")
    return text


def uint256(parent: Mapping[str, Any], key: str, path: str = "") -> int:
    """An unsigned integer below 2**256, from its one canonical decimal string."""
    text = member(parent, key, str, path)
    if not _UINT.fullmatch(text):
        raise FieldRefused(f"{path}{key}", "is not a canonical unsigned integer")
    number = int(text)
    if number >> 256:
        raise FieldRefused(f"{path}{key}", "does not fit into 256 bits")
    return number


def address(parent: Mapping[str, Any], key: str, path: str = "") -> bytes:
    """20 bytes from 0x and 40 hexadecimal digits in any case."""
    return _hex_bytes(parent, key, path, 20)


def bytes32(parent: Mapping[str, Any], key: str, path: str = "") -> bytes:
    """32 bytes from 0x and 64 hexadecimal digits in any case."""
    return _hex_bytes(parent, key, path, 32)


def hex_bytes(parent: Mapping[str, Any], key: str, path: str = "") -> bytes:
    """Any number of bytes from 0x and pairs of hexadecimal digits."""
    return _hex_bytes(parent, key, path, None)


def _hex_bytes(
    parent: Mapping[str, Any], key: str, path: str, size: int | None
) -> bytes:
    text = member(parent, key, str, path)
    try:
        decoded = a2b_hex(text[2:]) if text[:2] == "0x" else None
    except (HexError, ValueError):
        decoded = None
    if decoded is None or (size is not None and len(decoded) != size):
        expected = "bytes" if size is None else f"{size} bytes"
        raise FieldRefused(f"{path}{key}", f"is not 0x and {expected} in hexadecimal")
    return decoded
