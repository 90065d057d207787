"""What the project asks for and what the locks install are the same thing."""

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GROUPS: dict[str, list[str]] = {
    "dependencies": PROJECT["dependencies"],
    **PROJECT["optional-dependencies"],
}


def _versions(lock: str) -> dict[str, str]:
    found = re.findall(
        r"^([\w.-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE
    )
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("group", GROUPS)
def test_no_package_is_asked_for_twice(group: str) -> None:
    """Of two lines with two bounds the looser one is a trap for whoever reads it."""
    names = Counter(canonicalize_name(Requirement(line).name) for line in GROUPS[group])
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    ("lock", "groups"),
    [
        ("requirements.lock", list(GROUPS)),
        ("requirements-server.lock", ["dependencies"]),
    ],
)
def test_a_lock_pins_what_is_asked_for(lock: str, groups: list[str]) -> None:
    pinned = _versions(lock)
    wanted = [Requirement(line) for group in groups for line in GROUPS[group]]
    off = [
        str(one)
        for one in wanted
        if not one.specifier.contains(pinned.get(canonicalize_name(one.name), "0"))
    ]
    assert len(wanted) > 20
    assert off == []
