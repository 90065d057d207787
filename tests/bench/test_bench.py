"""A benchmark says what it measured, beside what, and whether that suffices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench.figures import Figure

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("values", "baselines", "target", "ratio", "ok"),
    [
        ([9.0, 30.0, 10.0], [4.0, 5.0, 6.0], 2, 2.0, True),
        ([9.0, 30.0, 9.9], [4.0, 5.0, 6.0], 2, 1.98, False),
        ([1.0], [5.0], None, 0.2, True),
    ],
)
def test_a_figure_is_judged_by_the_ratio_of_its_medians(
    values: list[float],
    baselines: list[float],
    target: float | None,
    ratio: float,
    *,
    ok: bool,
) -> None:
    found = Figure("x", "words", "unit", values, baselines, target).document()
    assert (found["value"], found["ok"]) == (ratio, ok)


def test_the_ledgers_benchmark_runs_on_both_databases() -> None:
    ran = bench(
        *("ledger", "--json", "--rounds", "1", "--seconds", "0.2", "--customers", "20")
    )
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert [one["id"] for one in figures] == ["P3", "P1", "P2"]
    for one in figures:
        assert one.keys() >= {"id", "value", "baseline", "target", "ok"}
        assert one["measured"] > 0
        assert one["baseline"] > 0
        assert one["ok"] == (one["value"] >= one["target"])
    assert "round 1" in ran.stderr


def test_a_benchmark_needs_only_its_name() -> None:
    said = " ".join(bench("--help").stdout.split())
    for default in ("(default: 5)", "(default: 3.0)", "(default: 10000)"):
        assert default in said


def test_a_benchmark_that_there_is_not_is_named() -> None:
    ran = bench("nonsense")
    assert ran.returncode == 2
    assert "ledger" in ran.stderr
