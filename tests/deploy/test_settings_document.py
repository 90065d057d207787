"""docs/settings.md names every setting with its default, in the order of the class."""

import re
from pathlib import Path
from typing import Any

from tallystick.config import Settings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def _rows() -> list[list[str]]:
    lines = re.findall(r"^\| `.+\|$", DOCUMENT.read_text(), re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _spelled(default: Any) -> str:
    if default in {None, (), ""}:
        return "—"
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{text}`"


def test_every_setting_is_documented_with_its_default() -> None:
    documented = [(row[0].strip("`"), row[1]) for row in _rows()]
    fields = Settings.model_fields.items()
    assert documented == [(name, _spelled(one.default)) for name, one in fields]


def test_every_setting_has_a_meaning_and_an_example() -> None:
    assert [row for row in _rows() if len(row) != 4 or not all(row)] == []


def test_an_example_is_a_value_that_the_setting_takes() -> None:
    for name, _, _, example in _rows():
        if "…" not in example and name != "`secret_key`":
            Settings(**{name.strip("`"): example.strip("`")})
