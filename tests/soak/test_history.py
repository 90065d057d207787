"""The campaign finds that parallel histories add up, and when one does not."""

import pytest

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
