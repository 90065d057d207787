"""The extension payment-identifier: the payer's own name for a payment.

Specification: ``specs/extensions/payment_identifier.md``. Nobody signs the name, so it
proves nothing; it only keeps its payer from paying twice for one thing.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from tallystick.x402.fields import FieldRefused, member, optional_member

PAYMENT_IDENTIFIER: Final = "payment-identifier"
"""The key of the extension."""

_PATTERN: Final = "^[a-zA-Z0-9_-]+$"
_SHORTEST, _LONGEST = 16, 128
_ID: Final = re.compile(rf"[a-zA-Z0-9_-]{{{_SHORTEST},{_LONGEST}}}")
_SCHEMA: Final = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "required": {"type": "boolean"},
        "id": {
            "type": "string",
            "minLength": _SHORTEST,
            "maxLength": _LONGEST,
            "pattern": _PATTERN,
        },
    },
    "required": ["required"],
}


def declare_payment_identifier(*, required: bool) -> dict[str, Any]:
    """The member of a challenge's ``extensions`` that says we know identifiers."""
    return {PAYMENT_IDENTIFIER: {"info": {"required": required}, "schema": _SCHEMA}}


def read_payment_identifier(document: Mapping[str, Any]) -> str | None:
    """The name in a payment of version 2; raises ``FieldRefused`` for a wrong one.

    A client that does not care sends our declaration back without a name.
    """
    path = "extensions."
    extensions = optional_member(document, "extensions", dict)
    ours = optional_member(extensions or {}, PAYMENT_IDENTIFIER, dict, path)
    if ours is None:
        return None
    path += f"{PAYMENT_IDENTIFIER}."
    info = member(ours, "info", dict, path)
    if optional_member(info, "id", str, f"{path}info.") is None:
        return None
    if not _ID.fullmatch(info["id"]):
        problem = f"is not {_SHORTEST} to {_LONGEST} letters, digits, hyphens or _"
        raise FieldRefused(f"{path}info.id", problem)
    return str(info["id"])
