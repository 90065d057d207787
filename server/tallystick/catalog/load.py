"""From a TOML file, or the name of a shipped catalog, to a checked ``Catalog``."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from importlib.resources import files
from pathlib import Path as FilePath
from typing import Any, TypeVar

from pydantic import ValidationError

from tallystick.catalog.complaints import complaints
from tallystick.catalog.draft import Draft, Finding
from tallystick.catalog.errors import InvalidCatalog, Problem
from tallystick.catalog.feature_checks import feature_findings
from tallystick.catalog.lines import LineIndex, Path
from tallystick.catalog.models import (
    Catalog,
    Credit,
    Feature,
    Pack,
    Table,
    TopUp,
)
from tallystick.catalog.money_checks import money_findings

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BUILT_IN = files("tallystick").joinpath("catalogs")
T = TypeVar("T", bound=Table)


def built_in_catalogs() -> list[str]:
    """The names of the catalogs that ship with the package."""
    entries = (FilePath(entry.name) for entry in _BUILT_IN.iterdir())
    return sorted(entry.stem for entry in entries if entry.suffix == ".toml")


def load_catalog(path_or_name: str | FilePath) -> Catalog:
    """The catalog of a file, or a shipped one by its bare name.

    Text of lower-case letters, digits and underscores alone is a name; anything else
    is a path (``./shop``). Raises ``InvalidCatalog`` with all problems at once.
    """
    file = str(path_or_name)
    try:
        if isinstance(path_or_name, str) and _NAME.fullmatch(path_or_name):
            text = _BUILT_IN.joinpath(f"{file}.toml").read_text(encoding="utf-8")
        else:
            text = FilePath(path_or_name).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _refusal(file, "it is not UTF-8", "Save the file as UTF-8.") from error
    except OSError as error:
        reason = f"it cannot be read: {error.strerror}"
        shipped = ", ".join(built_in_catalogs())
        remedy = f"Give the path of a TOML file, or one of the names {shipped}."
        raise _refusal(file, reason, remedy) from error
    return parse_catalog(text, file)


def parse_catalog(text: str, file: str = "<catalog>") -> Catalog:
    """The catalog that a TOML text describes; ``file`` is its name in messages.

    Raises ``InvalidCatalog`` with all problems at once.
    """
    raw = _parse_toml(text, file)
    found: list[Finding] = []
    catalog = None
    try:
        catalog = Catalog.model_validate(raw)
    except ValidationError as error:
        found += complaints(error, raw)
    draft = _draft(raw)
    found += [*feature_findings(draft), *money_findings(draft)]
    if catalog is None or found:
        raise InvalidCatalog(_located(found, LineIndex(text), file, raw))
    return catalog


def _parse_toml(text: str, file: str) -> dict[str, Any]:
    try:
        # Decimal takes TOML's digits as they stand: 0.1 is exactly a tenth.
        return tomllib.loads(text, parse_float=Decimal)
    # int() refuses thousands of digits with a plain ValueError.
    except (ValueError, RecursionError) as error:
        reason, _, place = str(error).partition(" (at ")
        line = None
        if place.startswith("line "):
            line = int(place.removeprefix("line ").partition(",")[0])
        elif place:
            line = len(text.splitlines())  # "end of document"
        raise _refusal(file, reason, "Correct the TOML there.", line) from error


def _draft(raw: Mapping[str, Any]) -> Draft:
    return Draft(
        credit=_well_formed(Credit, raw.get("credit")),
        topup=_well_formed(TopUp, raw.get("topup", {})),
        features=_well_formed_items(Feature, raw.get("feature")),
        packs=_well_formed_items(Pack, raw.get("pack")),
        slugs=_texts(raw.get("feature"), "slug"),
        ids=_texts(raw.get("pack"), "id"),
    )


def _well_formed(table: type[T], raw: object) -> T | None:
    try:
        return table.model_validate(raw)
    except ValidationError:
        return None


def _well_formed_items(table: type[T], raw: object) -> dict[int, T]:
    items = raw if isinstance(raw, list) else []
    tried = {at: _well_formed(table, item) for at, item in enumerate(items)}
    return {at: item for at, item in tried.items() if item is not None}


def _texts(raw: object, key: str) -> dict[int, str]:
    items = raw if isinstance(raw, list) else []
    texts = {
        at: item.get(key) for at, item in enumerate(items) if isinstance(item, dict)
    }
    return {at: text for at, text in texts.items() if isinstance(text, str)}


def _located(
    found: list[Finding], lines: LineIndex, file: str, raw: Mapping[str, Any]
) -> list[Problem]:
    problems = [
        Problem(
            file,
            lines.line_of(one.path),
            ".".join(_named(one.path, raw)),
            one.reason,
            one.remedy,
        )
        for one in found
    ]
    return sorted(problems, key=lambda problem: problem.line or 0)


def _named(path: Path, raw: Any) -> Iterator[str]:
    """The path with slugs and ids in place of positions, which nobody counts."""
    for part in path:
        try:
            raw = raw[part]
        except (LookupError, TypeError):
            raw = None
        known = raw if isinstance(raw, dict) and isinstance(part, int) else {}
        name = known.get("slug", known.get("id"))
        position = part + 1 if isinstance(part, int) else part
        yield name if isinstance(name, str) else str(position)


def _refusal(
    file: str, reason: str, remedy: str, line: int | None = None
) -> InvalidCatalog:
    return InvalidCatalog([Problem(file, line, "", reason, remedy)])
