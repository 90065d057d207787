"""The documents say what the code does, or this fails and prints what is missing."""

import ast
import importlib
import inspect
import pkgutil
import re
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import SQLModel

import tallystick
from tallystick.credits import audit as credits_audit
from tallystick.kernel.crash_points import CrashPoint
from tallystick.kernel.error_list import ErrorLine, error_lines
from tallystick.kernel.errors import known_errors
from tallystick.ledger import audit as ledger_audit
from tallystick.ledger import chart

ROOT = Path(tallystick.__file__).parents[2]
DOCS = ROOT / "docs"
ROOMS = ("kernel", "ledger", "credits", "claims", "customers", "operators")
# Alembic runs this one itself, in a context of its own.
_NOT_IMPORTABLE = {"tallystick.migrations.env"}


def _import_everything() -> None:
    for module in pkgutil.walk_packages(tallystick.__path__, "tallystick."):
        is_program = module.name.endswith("__main__")
        if module.name not in _NOT_IMPORTABLE and not is_program:
            importlib.import_module(module.name)


def _own_errors() -> list[ErrorLine]:
    _import_everything()
    return [one for one in error_lines() if not one.is_sellers]


def _line(one: ErrorLine) -> str:
    meaning = one.meaning.replace("|", "\\|")
    return f"| `{one.code}` | {one.status} | {meaning} | {one.next_step or '—'} |"


def _all_of(module: str, kind: type) -> list[Any]:
    found = importlib.import_module(module)
    return [
        one
        for one in vars(found).values()
        if inspect.isclass(one)
        and issubclass(one, kind)
        and one.__module__.startswith(module)
    ]


def _modules() -> list[str]:
    _import_everything()
    prefixes = tuple(f"tallystick.{room}" for room in ROOMS)
    names = [
        one.name for one in pkgutil.walk_packages(tallystick.__path__, "tallystick.")
    ]
    return [one for one in names if one.startswith(prefixes)]


@pytest.mark.parametrize(
    ("heading", "is_for_operators"),
    [
        ("## For those who call the API", False),
        ("## For those who run or embed the server", True),
    ],
)
def test_every_error_is_documented_as_it_is(
    heading: str, *, is_for_operators: bool
) -> None:
    text = (DOCS / "errors.md").read_text()
    lines = text.split(f"{heading}\n")[1].split("\n## ")[0].splitlines()
    errors = [one for one in _own_errors() if one.is_for_operators == is_for_operators]
    wanted = [_line(one) for one in errors]
    missing = [one for one in wanted if one not in lines]
    documented = [one for one in lines if one.startswith("| `")]
    stale = [one for one in documented if one not in wanted]
    add = "\n".join(["add to docs/errors.md:", *missing])
    drop = "\n".join(["drop from docs/errors.md:", *stale])
    assert not missing, add
    assert not stale, drop
    assert documented == sorted(documented)


def test_every_error_of_these_rooms_says_what_to_do() -> None:
    _import_everything()
    silent = [
        error
        for error in known_errors().values()
        if error.__module__.startswith("tallystick.")
        and error.__module__ != "tallystick.kernel.errors"
        and error.__module__.split(".")[1] in ROOMS
        and not error.next_step
    ]
    assert silent == []


def test_every_member_of_an_enum_is_explained() -> None:
    unexplained = []
    for module in _modules():
        for enum in _all_of(module, StrEnum):
            tree = ast.parse(inspect.getsource(enum)).body[0]
            assert isinstance(tree, ast.ClassDef)
            explained = {
                statement.targets[0].id
                for statement, following in zip(tree.body, tree.body[1:], strict=False)
                if isinstance(statement, ast.Assign)
                and isinstance(statement.targets[0], ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            }
            unexplained += [one for one in enum if one.name not in explained]
    assert unexplained == []


def test_every_table_is_a_word_of_the_glossary() -> None:
    words = set(re.findall(r"^\| \*\*(.+?)\*\*", _glossary(), re.MULTILINE))
    tables = {
        table.__name__
        for module in _modules()
        for table in _all_of(module, SQLModel)
        if hasattr(table, "__table__")
    }
    assert tables - words == set()


def test_every_state_is_a_word_of_the_glossary() -> None:
    members = {
        member.value
        for module in _modules()
        for enum in _all_of(module, StrEnum)
        # Those are places in the code, and no states of anything.
        if enum is not CrashPoint
        for member in enum
    }
    assert len(members) > 10
    assert {one for one in members if f"`{one}`" not in _glossary()} == set()


def _glossary() -> str:
    return (DOCS / "glossary.md").read_text()


def test_every_invariant_that_is_checked_is_listed() -> None:
    text = (DOCS / "invariants.md").read_text()
    checks = {*ledger_audit.INVARIANTS, *credits_audit.INVARIANTS}
    for file in (ROOT / "server").rglob("*.py"):
        checks |= set(
            re.findall(r'^ +"(I\d+ .+?)"[:,]', file.read_text(), re.MULTILINE)
        )
    assert len(checks) > 20
    assert [one for one in checks if f"`{one}`" not in text] == []
    listed = re.findall(r"^\| (I\d+) \|", text, re.MULTILINE)
    assert listed == [f"I{n}" for n in range(1, 20)]


def test_every_test_that_a_document_names_exists() -> None:
    missing = []
    for document in [*DOCS.rglob("*.md"), *_room_documents()]:
        for path, name in re.findall(
            r"`(tests/[\w/.]+)(?:::(\w+))?`", document.read_text()
        ):
            file = ROOT / path
            if not file.exists() or (name and f"def {name}(" not in file.read_text()):
                missing.append(f"{document.name}: {path}::{name}")
    assert missing == []


def _room_documents() -> list[Path]:
    return [*(ROOT / "server" / "tallystick").rglob("README.md")]


def test_every_link_between_documents_leads_somewhere() -> None:
    link = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
    broken = [
        f"{document.name}: {target}"
        for document in [*DOCS.rglob("*.md"), *_room_documents()]
        for target in link.findall(document.read_text())
        if not (document.parent / target).exists()
    ]
    assert broken == []


def test_the_chart_of_accounts_is_documented() -> None:
    text = (ROOT / "server/tallystick/ledger/README.md").read_text()
    table = re.findall(r"^\| (``.+?``)", chart.__doc__ or "", re.MULTILINE)
    assert len(table) >= 6
    assert [one for one in table if one.replace("``", "`") not in text] == []
