"""Keys as text: ``<prefix>_<id>_<secret>_<checksum>``.

The id finds the key's row, the secret has 256 bits, the checksum tells a typing error
from a wrong key without asking the database.
"""

import secrets
import zlib
from collections.abc import Container

from tallystick.kernel.ids import UnknownId, decode_id, encode_id


class NoKey(ValueError):
    """The text is no key of ours; it is never repeated."""


def new_secret() -> str:
    """The secret of a new key: 64 hexadecimal digits."""
    return secrets.token_hex(32)


def compose(prefix: str, key_id: int, secret: str) -> str:
    """The whole key, to be shown once."""
    body = f"{encode_id(prefix, key_id)}_{secret}"
    return f"{body}_{_checksum(body)}"


def take_apart(text: str, prefixes: Container[str]) -> tuple[str, int, str]:
    """Prefix, id and secret of a key; raises ``NoKey``."""
    parts = text.split("_")
    well_formed = len(parts) == 4 and parts[0] in prefixes and text.isascii()
    if not well_formed or _checksum("_".join(parts[:3])) != parts[3]:
        raise NoKey
    try:
        return parts[0], decode_id(parts[0], f"{parts[0]}_{parts[1]}"), parts[2]
    except UnknownId as error:
        # Its checksum is no secret, so what fits it may still be no key of ours.
        raise NoKey from error


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
