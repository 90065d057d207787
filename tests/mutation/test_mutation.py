"""What the campaign says of a mutant is what became of it."""

import json
from pathlib import Path

import pytest
from mutation.reasons import Reasons
from mutation.results import change, mutants_of
from mutation.statements import edits

_FILE = """
def x_take__mutmut_orig(left, price):
    return left >= price
def x_take__mutmut_1(left, price):
    return left > price
def x_take__mutmut_2(left, price):
    return None
class Account:
    async def xǁAccountǁadd__mutmut_orig(self, n):
        self.n += n
        self.lines += 1
    async def xǁAccountǁadd__mutmut_1(self, n):
        self.n += n
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    room = tmp_path / "mutants" / "src" / "tallystick" / "ledger"
    room.mkdir(parents=True)
    (room / "some.py").write_text(_FILE)
    outcomes = {
        "tallystick.ledger.some.x_take__mutmut_1": 0,
        "tallystick.ledger.some.x_take__mutmut_2": 1,
        "tallystick.ledger.some.xǁAccountǁadd__mutmut_1": -24,
        "tallystick.ledger.some.xǁAccountǁadd__mutmut_2": None,
    }
    (room / "some.py.meta").write_text(json.dumps({"exit_code_by_key": outcomes}))
    return tmp_path


def test_a_mutant_is_killed_by_a_failed_test_and_by_nothing_else(folder: Path) -> None:
    found = mutants_of(folder)
    assert [(one.file, one.function) for one in found] == [
        ("ledger/some.py", "take"),
        ("ledger/some.py", "take"),
        ("ledger/some.py", "Account.add"),
        ("ledger/some.py", "Account.add"),
    ]
    assert [one.is_killed for one in found] == [False, True, False, False]
    assert [one.has_timed_out for one in found] == [False, False, True, False]


def test_a_survivor_is_known_by_what_it_changed(folder: Path) -> None:
    first, _, added, _ = mutants_of(folder)
    assert change(folder, first) == "- return left >= price + return left > price"
    assert change(folder, added) == "- self.lines += 1"


_TOLD = """
[[reason]]
why = "the same"
anywhere = ["strict=None"]
"ledger/some.py take" = ["+ return left > price"]
"""


def test_a_survivor_without_a_reason_is_told(tmp_path: Path) -> None:
    told = tmp_path / "told.toml"
    told.write_text(_TOLD)
    reasons = Reasons(told)
    reasons.explain("ledger/some.py", "take", "- return 1 + return left > price")
    reasons.explain("ledger/other.py", "take", "+ zip(a, b, strict=None)")
    reasons.explain("ledger/other.py", "take", "+ return left > price")
    reasons.explain("ledger/some.py", "take", "+ return left < price")
    assert [len(one.survivors) for one in reasons.given] == [2]
    assert reasons.missing == [
        "ledger/other.py take: + return left > price",
        "ledger/some.py take: + return left < price",
    ]


_SQL = '''"""SELECT nothing of this: a docstring."""
ERROR = "take < 1 AND more"
PAGE = """
    SELECT id, -amount FROM lot
     WHERE account = :account AND {only}
       AND (ends IS NULL
            OR ends > :now)
     ORDER BY id DESC"""
TAKE = "UPDATE balance SET left = left - :price WHERE left >= :price"
'''


def test_each_edit_makes_one_statement_wrong_in_one_place() -> None:
    found = edits(_SQL)
    assert sorted(one.shown.partition(" → ")[2] for one in found) == sorted(
        [
            "SELECT id, amount FROM lot",
            "WHERE account <> :account AND {only}",
            "WHERE TRUE",
            "OR (ends IS NULL",
            "nothing",
            "AND (ends IS NOT NULL",
            "AND ends > :now)",
            ")",
            "OR ends >= :now)",
            'ORDER BY id"""',
            'TAKE = "UPDATE balance SET left = left + :price WHERE left >= :price"',
            'TAKE = "UPDATE balance SET left = left - :price WHERE left > :price"',
        ]
    )
    changed = {one.apply(_SQL) for one in found}
    assert len(changed) == len(found)
    assert _SQL not in changed
    assert all("take < 1 AND more" in one for one in changed)
