"""JSON-RPC's hexadecimal, read strictly: a node's answer is outside input.

Everything here raises ``Garbage`` for what is not exactly the shape asked for, which
becomes ``RpcUnavailable``: an answer that cannot be read is no answer. The message
does not repeat the value, which may be huge or nested without end.
"""

import re
from contextlib import suppress
from typing import Any

_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")


class Garbage(ValueError):
    """The answer does not have the shape that the JSON-RPC specification gives it."""


def to_hex(octets: bytes) -> str:
    """The bytes as ``0x`` and lower-case digits."""
    return "0x" + octets.hex()


def quantity(value: Any) -> int:
    """A number of up to 256 bits."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise Garbage("no quantity")
    return int(value, 16)


def octets(value: Any) -> bytes:
    """Any number of bytes."""
    if isinstance(value, str) and value.startswith("0x"):
        with suppress(ValueError):
            found = bytes.fromhex(value[2:])
            # It skips white space, which then is missing from the length.
            if len(found) * 2 == len(value) - 2:
                return found
    raise Garbage("no bytes")


def fixed(value: Any, size: int) -> bytes:
    """Exactly so many bytes."""
    found = octets(value)
    if len(found) != size:
        raise Garbage(f"{len(found)} bytes instead of {size}")
    return found


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise Garbage("no object")
    return value


def sequence(value: Any) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list):
        raise Garbage("no array")
    return value


def field(value: dict[str, Any], name: str) -> Any:
    """A member that must be there."""
    if name not in value:
        raise Garbage(f"no {name}")
    return value[name]
