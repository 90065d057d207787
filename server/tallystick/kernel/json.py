"""JSON whose numbers are exact: a Decimal is written, and read, digit by digit.

FastAPI's encoder turns a Decimal into a float and pydantic's into a string. Credits
are JSON numbers with at most six decimals, so the edge prints with this.
"""

import json
import re
from decimal import Decimal
from json.encoder import encode_basestring
from math import isfinite
from typing import Any

_MOST_CONTAINERS = 10_000
# One that does not end goes to the end, or the search would begin anew in its middle.
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_SHOWN = 40
"""Characters of a stranger's name that a message repeats."""


def dumps(value: Any) -> bytes:
    """Compact UTF-8 JSON of dicts with text keys, lists, tuples and scalars.

    A Decimal becomes a number without exponent or trailing zeros, a whole one an
    integer. Raises ``ValueError`` for NaN and infinity, ``TypeError`` for other types.
    """
    return _text(value).encode()


def loads(text: str | bytes) -> Any:
    """The value of a JSON text, its fractions as Decimal so that none is rounded.

    Raises ``ValueError`` for what is no JSON, NaN and infinity included.
    """
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse)


class AmbiguousJson(ValueError):
    """JSON that two readers may read differently; its words say why."""


def loads_strictly(text: str, *, deepest: int) -> Any:
    """As ``loads``, for a text of a stranger's.

    Raises ``AmbiguousJson`` for a name that stands twice in one object, at any depth,
    for more than so many lists and objects inside of each other, and for more than
    10,000 of them in all.
    """
    if _has_too_many(text):
        raise AmbiguousJson(f"has more than {_MOST_CONTAINERS} lists and objects")
    try:
        value = json.loads(
            text,
            parse_float=Decimal,
            parse_constant=_refuse,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise AmbiguousJson(f"is nested more than {deepest} deep") from error
    if _is_deeper(value, deepest):
        raise AmbiguousJson(f"is nested more than {deepest} deep")
    return value


def _has_too_many(text: str) -> bool:
    """Whether it would take long: an empty list is two bytes there and 56 in memory."""
    if text.count("[") + text.count("{") <= _MOST_CONTAINERS:
        return False
    bare = _STRING.sub("", text)
    return bare.count("[") + bare.count("{") > _MOST_CONTAINERS


def _is_deeper(value: Any, deepest: int) -> bool:
    """Level by level, because the functions of a deep value would be as deep."""
    level = [value]
    for _ in range(deepest):
        containers = [one for one in level if isinstance(one, dict | list)]
        level = [
            inner
            for one in containers
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return any(isinstance(one, dict | list) for one in level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise AmbiguousJson(f"has the member {name[:_SHOWN]!r} twice")
        members[name] = value
    return members


def _text(value: Any) -> str:
    # bool comes before int: in Python True is an int.
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        # str.__str__ takes the text of a StrEnum; lone surrogates fail in encode().
        return encode_basestring(str.__str__(value))
    if isinstance(value, int | float | Decimal):
        return _number(value)
    if isinstance(value, dict):
        return "{" + ",".join(map(_member, value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    raise TypeError(f"{type(value).__name__} has no place in JSON")


def _member(pair: tuple[Any, Any]) -> str:
    key, value = pair
    if not isinstance(key, str):
        raise TypeError(f"{key!r} is no text, so it cannot be a key in JSON")
    return f"{encode_basestring(str.__str__(key))}:{_text(value)}"


def _number(value: float | Decimal) -> str:
    if isinstance(value, int):
        return int.__repr__(value)
    if not isfinite(value):
        raise ValueError(f"{value} has no place in JSON")
    if not isinstance(value, Decimal):
        return float.__repr__(value)
    # Not normalize(): it rounds to the context's 28 digits.
    digits = f"{value:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} has no place in JSON")
