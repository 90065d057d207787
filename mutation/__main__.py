"""``scripts/mutate [--sql] [FILE…] [--tell] [--json] [--markdown]``."""

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from mutation.reasons import Reason, Reasons
from mutation.results import Mutant, change, mutants_of
from mutation.sql_run import SqlStage
from mutation.stage import Stage

_TARGET = 0.95
_Told = tuple[Mutant, Callable[[], str]]


@dataclass(frozen=True)
class Score:
    """Of one file: how many mutants were run, and how many of them the tests kill."""

    file: str
    run: int
    killed: int
    timed_out: int
    not_run: int

    @property
    def ratio(self) -> float:
        return (self.killed + self.timed_out) / max(self.run, 1)


def main() -> None:
    """Run the campaign and end with one verdict; exit 1 if it is a bad one."""
    asked = _arguments()
    files = [one.removeprefix("server/tallystick/") for one in asked.files]
    told = _sql(asked, files) if asked.sql else _python(asked, files)
    reasons = Reasons()
    for one, change_of in told:
        if one.outcome is None:
            reasons.missing.append(f"{one.file} {one.function}: was not run")
        elif _lives(one):
            reasons.explain(one.file, one.function, change_of())
    _tell(asked, [one for one, _ in told], reasons)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("files", nargs="*", help="such as credits/limits.py")
    parser.add_argument("--sql", action="store_true", help="of SQL, not of Python")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", action="store_true", help="print tables")
    parser.add_argument(
        "--tell", action="store_true", help="run nothing, tell what is known already"
    )
    return parser.parse_args()


def _python(asked: argparse.Namespace, files: Sequence[str]) -> list[_Told]:
    sqlite, postgres = Stage("sqlite"), Stage("postgres")
    if not asked.tell:
        children = int(
            os.environ.get("TALLYSTICK_MUTATE_CHILDREN") or os.cpu_count() or 1
        )
        sqlite.run([_pattern(one) for one in files], children)
        # What SQLite lets live may be meant for PostgreSQL.
        if unexplained := _unexplained(sqlite, files):
            postgres.run(unexplained, children)
    return [
        (one, partial(change, sqlite.folder, one))
        for one in _judged(sqlite, postgres, files)
    ]


def _unexplained(stage: Stage, files: Sequence[str]) -> list[str]:
    """Survivors without a reason: one that has one changes nothing on any database."""
    return [
        one.name
        for one in _of(files, mutants_of(stage.folder))
        if one.outcome is not None
        and _lives(one)
        and not Reasons().explain(one.file, one.function, change(stage.folder, one))
    ]


def _sql(asked: argparse.Namespace, files: Sequence[str]) -> list[_Told]:
    stage = SqlStage()
    if not asked.tell:
        stage.run(files)
    found = _of(files, stage.mutants())
    return [(one, partial(str, one.name)) for one in found]


def _pattern(file: str) -> str:
    return f"tallystick.{file.removesuffix('.py').replace('/', '.')}.*"


def _of(files: Sequence[str], mutants: Iterable[Mutant]) -> list[Mutant]:
    return [one for one in mutants if not files or one.file in files]


def _lives(one: Mutant) -> bool:
    return not one.is_killed and not one.has_timed_out


def _judged(sqlite: Stage, postgres: Stage, files: Sequence[str]) -> Iterator[Mutant]:
    """Each with the better of what became of it on the two databases."""
    there = {one.name: one for one in mutants_of(postgres.folder)}
    for one in _of(files, mutants_of(sqlite.folder)):
        other = there.get(one.name, one)
        was_run = one.outcome is not None
        yield one if was_run and (not _lives(one) or _lives(other)) else other


def _scores(told: Sequence[Mutant]) -> list[Score]:
    by_file: dict[str, list[Mutant]] = defaultdict(list)
    for one in told:
        by_file[one.file].append(one)
    return [_score(*one) for one in [*by_file.items(), ("all", told)]]


def _score(name: str, some: Sequence[Mutant]) -> Score:
    ran = [one for one in some if one.outcome is not None]
    killed = sum(one.is_killed for one in ran)
    timed_out = sum(one.has_timed_out for one in ran)
    return Score(name, len(ran), killed, timed_out, len(some) - len(ran))


def _tell(asked: argparse.Namespace, told: Sequence[Mutant], reasons: Reasons) -> None:
    scores = _scores(told)
    whole = scores[-1]
    ok = whole.run > 0 and whole.ratio >= _TARGET and not reasons.missing
    if asked.json:
        print(json.dumps(_verdict(scores, reasons, ok=ok)))
    else:
        lines = _markdown if asked.markdown else _plain
        print("\n".join(lines(scores, reasons)))
        print("ok" if ok else "bad: too few are killed, or a survivor has no reason")
    sys.exit(0 if ok else 1)


def _verdict(
    scores: Sequence[Score], reasons: Reasons, *, ok: bool
) -> dict[str, object]:
    return {
        "ok": ok,
        "target": _TARGET,
        "scores": {
            one.file: {
                "mutants": one.run,
                "killed": one.killed,
                "timed_out": one.timed_out,
                "not_run": one.not_run,
            }
            for one in scores
        },
        "survivors": {one.words: one.survivors for one in reasons.given},
        "without_reason": reasons.missing,
    }


def _plain(scores: Sequence[Score], reasons: Reasons) -> Iterator[str]:
    for one in scores:
        shown = f"{one.killed}+{one.timed_out}/{one.run}"
        yield f"{one.file:32} {shown:>12} {one.ratio:7.1%}"
    for reason in reasons.given:
        yield f"\n{len(reason.survivors)} survive: {reason.words}"
        yield from (f"  {one}" for one in reason.survivors)
    yield f"\n{len(reasons.missing)} survive without a reason"
    yield from (f"  {one}" for one in reasons.missing)


def _markdown(scores: Sequence[Score], reasons: Reasons) -> Iterator[str]:
    yield "| File | Mutants | Killed | Timed out | Score | Not run |"
    yield "|---|---|---|---|---|---|"
    for one in scores:
        yield (
            f"| {one.file} | {one.run:,} | {one.killed:,} | {one.timed_out} |"
            f" {one.ratio:.1%} | {one.not_run or ''} |"
        )
    yield "\n| Survivors | Why | Where |"
    yield "|---|---|---|"
    for reason in reasons.given:
        if reason.survivors:
            yield f"| {len(reason.survivors)} | {reason.words} | {_where(reason)} |"


def _where(reason: Reason) -> str:
    places = Counter(one.partition(":")[0] for one in reason.survivors)
    return ", ".join(
        f"`{place}`{f' ({count})' if count > 1 else ''}"
        for place, count in places.items()
    )


if __name__ == "__main__":
    main()
