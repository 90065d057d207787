"""The campaigns find nothing where nothing is wrong, and something where it is."""

import pytest

from tests.soak.campaigns import soak


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_killed_server_loses_nothing_and_charges_nothing_twice(
    database: str,
) -> None:
    code, verdict, _ = soak(
        *("crash", "--seconds", "3", "--seed", "7", "--database", database)
    )
    assert (code, verdict["ok"]) == (0, True), verdict
    assert verdict["seed"] == 7
    assert verdict["kills"] >= 1
    assert verdict["acknowledged"] >= 20
    for name in ("lost", "double", "unbalanced", "unanswered"):
        assert verdict[name] == 0


@pytest.mark.timeout(300)
def test_a_charge_that_is_taken_out_of_the_books_is_found() -> None:
    """Else the campaign would prove nothing."""
    code, verdict, _ = soak("crash", "--seconds", "1", "--seed", "8", "--sabotage")
    assert (code, verdict["ok"]) == (1, False)
    assert verdict["lost"] == 1
    assert verdict["unbalanced"] >= 1
