"""What pydantic finds wrong with a request, in the words of somebody who sent it.

Its own words name Python's types and our classes, which say nothing to a caller and
change with its releases. Nothing that was sent is repeated but names: a value may be a
secret.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from pydantic_core import PydanticCustomError

UNSEEN = object()
"""Stands for a request of which only the errors are known."""
_TOLD = "told"
_MOST = 20
"""Problems that one answer tells of; a body may have thousands of them."""
_LONGEST_NAME = 64
_PLACES = frozenset({"query", "path", "header", "cookie", "body"})
_SCHEMA = "what /openapi.json says"
_WORDS = {
    "missing": ("is missing", "a value"),
    "extra_forbidden": ("is not known here", "no such member"),
    "string_type": ("is no text", "text"),
    "string_pattern_mismatch": ("has not the right form", _SCHEMA),
    "string_too_short": ("is too short", "at least {min_length} characters"),
    "string_too_long": ("is too long", "at most {max_length} characters"),
    "too_short": ("has too few items", "at least {min_length}"),
    "too_long": ("has too many items", "at most {max_length}"),
    "greater_than": ("is too small", "more than {gt}"),
    "greater_than_equal": ("is too small", "at least {ge}"),
    "less_than": ("is too large", "less than {lt}"),
    "less_than_equal": ("is too large", "at most {le}"),
    "literal_error": ("is not one of the values taken", "{expected}"),
    "enum": ("is not one of the values taken", "{expected}"),
    "finite_number": ("is no number", "a number"),
}
_KINDS = (
    (("int_",), ("is no whole number", "a whole number")),
    (("decimal_", "float_"), ("is no number", "a number")),
    (("bool_",), ("is neither true nor false", "true or false")),
    (("list_", "set_", "frozen_set_", "tuple_"), ("is no list", "a list")),
    (("dict_", "mapping_", "model_"), ("is no object", "an object")),
)


def told(problem: str, expected: str) -> PydanticCustomError:
    """What a validator of ours raises: its words are shown as they are."""
    return PydanticCustomError(_TOLD, "{problem}", _facts(problem, expected))


def in_plain_words(
    errors: Iterable[Mapping[str, Any]], given: Any = UNSEEN
) -> list[dict[str, str]]:
    """Each problem with its ``field``, and with what is ``expected`` there.

    ``given`` is the whole value that was read; with it a field's path has no names in
    it but those that the caller sent.
    """
    found: dict[str, dict[str, str]] = {}
    for one in islice(errors, 10 * _MOST):
        field = _field(one, given)
        problem, expected = _words(one)
        if field not in found:
            found[field] = {"field": field, "problem": problem, "expected": expected}
        elif expected not in found[field]["expected"].split(" or "):
            # A member of two types has a complaint from each.
            found[field]["expected"] += f" or {expected}"
    return [one for field, one in found.items() if not _is_around(field, found)][:_MOST]


def _facts(problem: str, expected: str) -> dict[str, str]:
    return {"problem": problem, "expected": expected}


def _is_around(field: str, fields: Iterable[str]) -> bool:
    """Whether a member inside of it is at fault; that one says more."""
    return any(other.startswith(f"{field}.") for other in fields)


def _field(error: Mapping[str, Any], given: Any) -> str:
    path = list(error["loc"])
    if given is UNSEEN:
        names = path[1:] if path and path[0] in _PLACES else path
    else:
        names = _sent(path, given, is_missing=error["type"] == "missing")
    return ".".join(str(name)[:_LONGEST_NAME] for name in names) or "the body"


def _sent(path: list[Any], given: Any, *, is_missing: bool) -> list[Any]:
    """The path without pydantic's own marks, such as the branch of a union."""
    names = []
    for position, part in enumerate(path):
        is_last = position == len(path) - 1
        if _holds(given, part):
            given = given[part]
        elif not (is_missing and is_last):
            continue
        names.append(part)
    return names


def _holds(given: Any, part: Any) -> bool:
    if isinstance(given, list):
        return isinstance(part, int) and part < len(given)
    return isinstance(given, dict) and part in given


def _words(error: Mapping[str, Any]) -> tuple[str, str]:
    kind, facts = error["type"], error.get("ctx", {})
    if kind == _TOLD:
        return facts["problem"], facts["expected"]
    if kind in _WORDS:
        problem, expected = _WORDS[kind]
        return problem, expected.format(**facts)
    for starts, words in _KINDS:
        if kind.startswith(starts):
            return words
    return "is not accepted", _SCHEMA
