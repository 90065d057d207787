"""A benchmark says what it measured, beside what, and whether that suffices."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bench.__main__ import main
from bench.callers import Calls
from bench.figures import Figure
from bench.report import lines, table

ROOT = Path(__file__).parents[2]
_SETTING = ("--postgres", "work_mem=5MB")
_TINY = ("--json", "--rounds", "1", "--seconds", "0.05", "--customers", "20")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Ran(NamedTuple):
    figures: dict[str, dict[str, Any]]
    progress: str


def finish(started: subprocess.Popen[str]) -> Ran:
    out, err = started.communicate()
    assert started.returncode == 0, err
    return Ran({one["id"]: one for one in json.loads(out)}, err)


@pytest.fixture(scope="module")
def tiny() -> dict[str, Ran]:
    """Both benchmarks, tiny and at the same time."""
    started = {
        "ledger": start("ledger", *_TINY),
        "scale": start("scale", *_TINY, "--entries", "200", *_SETTING),
    }
    return {name: finish(one) for name, one in started.items()}


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


@pytest.mark.parametrize(("value", "ok"), [(250.0, True), (250.1, False)])
def test_where_less_is_better_the_target_is_the_most(value: float, *, ok: bool) -> None:
    found = Figure("x", "words", "bytes", [value], [1], 250, at_most=True).document()
    assert (found["ok"], found["at_most"]) == (ok, True)


def test_a_table_and_the_lines_tell_the_verdict_and_its_direction() -> None:
    figures = [
        Figure("a", "less", "bytes", [900], [1], 250, at_most=True),
        Figure("b", "more", "charges/s", [3_000], [2_000], 1.5, more={"p50_ms": 1.25}),
        Figure("c", "told", "ms", [3], [2]),
    ]
    assert list(table(figures))[2:] == [
        "| a | less | 900 | ≤ 250 | SHORT | 900, 1 bytes | 0% |",
        "| b | more | 1.5 | ≥ 1.5 | ok | 3,000, 2,000 charges/s, p50 ms 1.25 | 0% |",
        "| c | told | 1.5 |  | told | 3, 2 ms | 0% |",
    ]
    verdicts = [one.split()[0] for one in list(lines(figures))[::2]]
    assert verdicts == ["SHORT", "ok", "told"]


def test_latency_is_told_by_its_median_and_its_slow_end() -> None:
    made = Calls(2.0, [float(one) for one in range(200, 0, -1)])
    assert (made.per_second, made.p50_ms, made.p99_ms) == (100, 100.5, 199)


def test_every_figure_has_what_it_needs_to_be_judged(tiny: dict[str, Ran]) -> None:
    for ran in tiny.values():
        assert "round 1" in ran.progress
        for one in ran.figures.values():
            assert one.keys() >= {"id", "value", "baseline", "target", "ok"}
            assert one["measured"] > 0
            assert one["baseline"] > 0
            if one["target"] is None:
                assert one["ok"]
            elif one["at_most"]:
                assert one["ok"] == (one["value"] <= one["target"])
            else:
                assert one["ok"] == (one["value"] >= one["target"])


def test_the_ledgers_benchmark_tells_few_callers_and_many(
    tiny: dict[str, Ran],
) -> None:
    figures = tiny["ledger"].figures
    judged = {"P1": 2.5, "P2": 20, "P3": 4, "P13-postgres": 600, "P13-sqlite": 250}
    told = {f"ledger-{one}-latency" for one in ("postgres", "sqlite")} | {
        f"ledger-{database}-{spread}-{callers}"
        for database in ("postgres", "sqlite")
        for spread in ("one", "many")
        for callers in (1, 32, 64, 256)
        if callers != 64 or (database, spread) == ("sqlite", "one")
    }
    told |= {
        f"ledger-{database}-{spread}-64-bare"
        for database in ("postgres", "sqlite")
        for spread in ("one", "many")
    }
    assert figures.keys() == judged.keys() | told
    assert {name: figures[name]["target"] for name in judged} == judged
    for name in (*told, "P1", "P2", "P3"):
        if not name.endswith(("latency", "bare")):
            assert 0 < figures[name]["p50_ms"] <= figures[name]["p99_ms"]


def test_the_benchmark_of_scale_tells_both_databases(tiny: dict[str, Ran]) -> None:
    figures = tiny["scale"].figures
    targets = {"P12-postgres": 0.75, "P12-sqlite": 0.5}
    told = {
        f"scale-{database}-{what}"
        for database in ("postgres", "sqlite")
        for what in ("balance", "statement", "open")
    }
    assert figures.keys() == targets.keys() | told
    for name, target in targets.items():
        one = figures[name]
        assert (one["target"], one["customers"], one["entries"]) == (target, 20, 200)
        assert ("work_mem=5MB" in one["what"]) == (name == "P12-postgres")
    assert "80 of 80 charges" in tiny["scale"].progress


def _asked(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """What the program ends with."""
    monkeypatch.setattr(sys, "argv", ["scripts/bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_benchmark_needs_only_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _asked(monkeypatch, "--help") == 0
    said = " ".join(capsys.readouterr().out.split())
    for default in ("(default: 5)", "(default: 3.0)", "10,000", "1,000,000"):
        assert default in said


@pytest.mark.parametrize("option", ["--rounds", "--seconds", "--customers"])
def test_a_benchmark_of_nothing_is_refused(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _asked(monkeypatch, "ledger", option, "0") == 2
    assert "must be more than 0" in capsys.readouterr().err


def test_a_benchmark_that_there_is_not_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _asked(monkeypatch, "nonsense") == 2
    assert "ledger" in capsys.readouterr().err
