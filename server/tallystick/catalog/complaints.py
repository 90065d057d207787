"""pydantic's errors in the words of somebody who writes a catalog."""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tallystick.catalog.draft import Finding
from tallystick.catalog.models import TABLES, Table

_REASONS = {
    "model_type": "it is no table",
    "mapping_type": "it is no table",
    "tuple_type": "it is no list",
    "too_short": "it is empty",
    "greater_than": "it is not above 0",
    "greater_than_equal": "it is below 0",
}


def complaints(error: ValidationError, raw: Mapping[str, Any]) -> Iterator[Finding]:
    """One finding for each thing that the form of the catalog does not allow."""
    for detail in error.errors(include_url=False):
        path = tuple(part for part in detail["loc"] if part != "[key]")
        reason, remedy = _explain(detail, path)
        yield Finding(path, reason, remedy)


def keys_of(table: type[Table]) -> dict[str, str]:
    """The keys of a table as the file spells them, each with its help."""
    return {
        field.alias or name: field.description or ""
        for name, field in table.model_fields.items()
    }


def _explain(detail: ErrorDetails, path: Sequence[str | int]) -> tuple[str, str]:
    keys = keys_of(_table_around(path))
    purpose = next((keys[str(part)] for part in reversed(path) if part in keys), "")
    match detail["type"]:
        case "missing":
            return "it is missing", f"Add it: {purpose}"
        case "extra_forbidden":
            return "there is no such key", _instead(str(path[-1]), keys)
        case "tuple_type" if path[-1] in {"feature", "pack"}:
            return "it is no array", f"Write [[{path[-1]}]], with two brackets."
        case known if known in _REASONS:
            return _REASONS[known], purpose
        case "string_pattern_mismatch":
            return f"{detail['input']!r} is not well formed", purpose
        case _:
            return detail["msg"], purpose


def _instead(key: str, known: Mapping[str, str]) -> str:
    close = get_close_matches(key, known, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Remove it; the keys here are {', '.join(known)}."


def _table_around(path: Sequence[str | int]) -> type[Table]:
    names = [part for part in path[:-1] if isinstance(part, str)]
    if names[:2] == ["feature", "parameters"] and len(names) > 2:
        names[2] = "*"
    while tuple(names) not in TABLES:
        names.pop()
    return TABLES[tuple(names)]
