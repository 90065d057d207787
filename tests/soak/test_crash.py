"""The campaigns find nothing where nothing is wrong, and something where it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def soak(*arguments: str) -> tuple[int, dict[str, Any]]:
    ran = subprocess.run(
        [sys.executable, "-m", "soak", *arguments, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout, ran.stderr
    verdict: dict[str, Any] = json.loads(ran.stdout)
    return ran.returncode, verdict


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_killed_server_loses_nothing_and_charges_nothing_twice(
    database: str,
) -> None:
    code, verdict = soak(
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
    code, verdict = soak("crash", "--seconds", "1", "--seed", "8", "--sabotage")
    assert (code, verdict["ok"]) == (1, False)
    assert verdict["lost"] == 1
    assert verdict["unbalanced"] >= 1
