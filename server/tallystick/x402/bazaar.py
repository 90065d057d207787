"""The extension bazaar: how a priced route is called, for catalogs of such routes.

Specification: ``specs/extensions/bazaar.md``. Facilitators read it from the payments of
clients, who send our declaration back; it is for machines and changes nothing here.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

BAZAAR: Final = "bazaar"
"""The key of the extension."""

_LARGEST_BYTES: Final = 1_500
_MOST_PARTS: Final = 40
"""Objects and lists, and brackets in patterns: all of it comes back in each payment."""

_IN_QUERY: Final = frozenset({"GET", "HEAD", "DELETE"})


def declare_bazaar(
    method: str,
    arguments: Mapping[str, Any],
    required: Sequence[str],
    example: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The member of a challenge's ``extensions``; empty for a method that it lacks.

    ``arguments`` are JSON Schemas by name, ``example`` is one call that fits them. What
    would make payments too large to be read is left out: first the example, then the
    arguments.
    """
    if method not in _IN_QUERY | {"POST", "PUT", "PATCH"}:
        return {}
    schema = {"properties": dict(arguments), "required": list(required)}
    tries = ((schema, example), (schema, None), ({"type": "object"}, None))
    for given, shown in tries:
        declared = _declaration(method, {"type": "object", **given}, shown)
        if _fits(declared):
            return {BAZAAR: declared}
    raise AssertionError("a declaration without arguments is small")


def _declaration(
    method: str, arguments: Mapping[str, Any], example: Mapping[str, Any] | None
) -> dict[str, Any]:
    info: dict[str, Any] = {"type": "http", "method": method}
    shape: dict[str, Any] = {"type": {"const": "http"}, "method": {"const": method}}
    needed = ["type", "method"]
    if method in _IN_QUERY:
        place = "queryParams"
    else:
        place = "body"
        info["bodyType"], shape["bodyType"] = "json", {"const": "json"}
        needed += ["bodyType"]
    shape[place] = arguments
    if example is not None:
        info[place] = dict(example)
    elif place == "body":
        # The SDK's reader takes an empty one for none, and it has to fit the schema.
        info[place] = {}
        shape[place] = {
            name: arguments[name] for name in arguments.keys() - {"required"}
        }
    return {
        "info": {"input": info},
        "schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": {
                "input": {
                    "type": "object",
                    "properties": shape,
                    "required": needed,
                    "additionalProperties": False,
                }
            },
            "required": ["input"],
        },
    }


def _fits(declared: Mapping[str, Any]) -> bool:
    text = json.dumps(declared, separators=(",", ":"))
    parts = text.count("{") + text.count("[")
    return len(text) <= _LARGEST_BYTES and parts <= _MOST_PARTS
