"""The campaign finds nothing in sound books, and its seed brings back what it found."""

import pytest
from soak.plan import Plan

from soak import ledger
from tests.soak.campaigns import soak


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_long_programs_keep_the_books_as_the_model_says(database: str) -> None:
    arguments = ("ledger", "--seconds", "2", "--seed", "7", "--database", database)
    code, verdict, _ = soak(*arguments)
    assert (code, verdict["ok"]) == (0, True), verdict
    assert verdict["seed"] == 7
    assert verdict["programs"] >= 1
    assert verdict["steps"] >= 50
    assert verdict["worth"] * 3 >= verdict["steps"]
    assert verdict["written_together"] > 0


def test_one_seed_always_writes_the_same_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ledger, "_STEPS", 8)

    def told(seed: int) -> list[str]:
        assert ledger.run(Plan(4, seed))["ok"]
        return capsys.readouterr().err.splitlines()

    runs = [told(7), told(7), told(8)]
    # The clock ends them, so one of the two may have played some programs more.
    same = min(map(len, runs))
    assert same > 4
    assert runs[0][:same] == runs[1][:same]
    assert runs[0][:same] != runs[2][:same]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [4, 8])
def test_a_balance_that_was_changed_behind_the_ledger_is_found(seed: int) -> None:
    """Else the campaign would prove nothing, whichever program comes first."""
    arguments = ("ledger", "--seconds", "2", "--seed", str(seed), "--sabotage")
    code, verdict, _ = soak(*arguments)
    assert (code, verdict["ok"]) == (1, False)
    assert verdict["seed"] == seed
    assert "the_books_agree_with_the_model" in verdict["failure"]


def test_a_sabotage_that_spoilt_nothing_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_to_spoil(_: object) -> bool:
        return False

    monkeypatch.setattr(ledger._Machine, "_spoil", nothing_to_spoil)
    monkeypatch.setattr(ledger, "_STEPS", 8)
    verdict = ledger.run(Plan(1, 7, sabotage=True))
    assert (verdict["ok"], verdict["failure"]) == (False, "sabotage: nothing spoilt")


def test_a_long_run_that_saw_nothing_of_a_main_kind_is_bad(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "_LONG_SECONDS", 1)
    monkeypatch.setattr(ledger, "_STEPS", 2)
    verdict = ledger.run(Plan(1, 7))
    assert not verdict["ok"]
    assert verdict["failure"].startswith("none of: ")
