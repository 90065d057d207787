"""Headers that hold base64 of JSON, read without mercy and written compactly.

One payment must have one reading, so whatever two parsers could read differently is
refused: loose base64, duplicate keys, numbers that are no small integers. Caps come
before work.
"""

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from json import JSONDecodeError, JSONDecoder, JSONEncoder
from typing import Any, Final, NoReturn

from tallystick.x402.fields import FieldRefused

MAX_HEADER_BYTES: Final = 8192
"""Of one header value, before decoding. A signature is therefore shorter still."""

MAX_DEPTH: Final = 12
MAX_KEYS: Final = 128
"""In the whole document. Stock clients send our ``extensions`` back in full."""

_MAX_INTEGER_DIGITS: Final = 10
_MAX_CONTAINERS: Final = 64


def decode_header(value: bytes | str, name: str) -> dict[str, Any]:
    """The JSON object in one header value; raises ``FieldRefused``."""
    if len(value) > MAX_HEADER_BYTES:
        raise FieldRefused(name, f"is longer than {MAX_HEADER_BYTES} bytes")
    text = _json_text(value, name)
    try:
        document = _DECODER.decode(text)
    except JSONDecodeError:
        raise FieldRefused(name, "holds no JSON") from None
    except _NotCanonicalJson as refusal:
        raise FieldRefused(name, refusal.args[0]) from None
    if type(document) is not dict:
        raise FieldRefused(name, "holds no JSON object")
    if _count_keys(document, MAX_DEPTH, name) > MAX_KEYS:
        raise FieldRefused(name, f"holds more than {MAX_KEYS} keys")
    return document


def encode_header(document: Mapping[str, Any]) -> str:
    """Base64 of compact JSON in ASCII.

    ASCII, because clients of version 1 decode with ``atob`` and would read UTF-8 as
    Latin-1.
    """
    return b2a_base64(_ENCODE(document).encode(), newline=False).decode()


def _json_text(value: bytes | str, name: str) -> str:
    try:
        raw = value.encode("ascii") if isinstance(value, str) else value
        decoded = a2b_base64(raw)
    except (Base64Error, UnicodeEncodeError):
        raise FieldRefused(name, "is not base64") from None
    # The decoder skips what it does not know. Only the one canonical spelling
    # (standard alphabet, padded, nothing in between) encodes back to itself.
    if b2a_base64(decoded, newline=False) != raw:
        raise FieldRefused(name, "is not standard base64 with padding")
    # Bounds the parser's recursion; brackets inside of strings may be counted.
    if decoded.count(b"{") + decoded.count(b"[") > _MAX_CONTAINERS:
        raise FieldRefused(name, "holds too many objects and lists")
    try:
        return decoded.decode("utf-8")
    except UnicodeDecodeError:
        raise FieldRefused(name, "is not UTF-8") from None


def _count_keys(container: Any, depth_left: int, name: str) -> int:
    """How many keys there are at any depth."""
    if depth_left == 0:
        raise FieldRefused(name, f"is nested deeper than {MAX_DEPTH}")
    is_object = type(container) is dict
    count = len(container) if is_object else 0
    for item in container.values() if is_object else container:
        if type(item) is dict or type(item) is list:
            count += _count_keys(item, depth_left - 1, name)
    return count


class _NotCanonicalJson(ValueError):
    """JSON that could be read in two ways."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _NotCanonicalJson("holds a key twice")
    return members


def _integer(digits: str) -> int:
    # Amounts travel as strings; what is a number here counts seconds or versions.
    if len(digits) > _MAX_INTEGER_DIGITS:
        raise _NotCanonicalJson("holds a number that is too long")
    return int(digits)


def _no_number(_digits: str) -> NoReturn:
    raise _NotCanonicalJson("holds a number that is no integer")


_DECODER: Final = JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_no_number,
    parse_constant=_no_number,
)
_ENCODE: Final = JSONEncoder(separators=(",", ":"), allow_nan=False).encode
