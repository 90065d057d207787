"""JSON whose numbers are exact: a Decimal is written, and read, digit by digit.

FastAPI's encoder turns a Decimal into a float and pydantic's into a string. Credits
are JSON numbers with at most six decimals, so the edge prints with this.
"""

import json
from decimal import Decimal
from json.encoder import encode_basestring
from math import isfinite
from typing import Any


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
