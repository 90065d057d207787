"""The campaign finds that parallel histories add up, and when one does not."""

import sys

import pytest
from soak.__main__ import main

from tests.soak.campaigns import soak


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_what_many_writers_were_told_adds_up(database: str) -> None:
    arguments = ("history", "--seconds", "1", "--seed", "7", "--database", database)
    code, verdict, _ = soak(*arguments)
    assert (code, verdict["ok"]) == (0, True), verdict
    assert verdict["seed"] == 7
    assert verdict["histories"] >= 1
    assert verdict["charges"] > 20
    assert verdict["holds"] > 20


@pytest.mark.timeout(300)
def test_a_balance_that_nobody_was_told_of_is_found() -> None:
    """Else the campaign would prove nothing."""
    code, verdict, _ = soak("history", "--seconds", "1", "--seed", "8", "--sabotage")
    assert (code, verdict["ok"]) == (1, False)
    assert "assert await audit(db) == []" in verdict["failure"]


def test_a_campaign_of_no_time_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would find nothing, and say that all is well."""
    monkeypatch.setattr(sys, "argv", ["scripts/soak", "history", "--seconds", "-1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--seconds must be more than 0" in capsys.readouterr().err
