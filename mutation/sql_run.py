"""The tests against each wrong statement, one process for each.

Nobody collects anew which tests go through a statement: mutmut has found out, on each
database, which go through the functions of its file. Those of the invariant that it
belongs to go first, then the quickest.
"""

import compileall
import importlib
import importlib.util
import json
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mutation.results import Mutant
from mutation.stage import ROOT, Stage
from mutation.statements import Edit, edits

_ROOMS = ("ledger", "credits")
# Imported once, for every process that is forked from here; nothing of ours among it.
_HEAVY = ("sqlmodel", "sqlalchemy.ext.asyncio", "alembic.command", "fastapi", "web3")
_PATIENCE_SECONDS = 300
# A library that was imported already is one whose assertions nobody needs rewritten.
_QUIET = "ignore::pytest.PytestAssertRewriteWarning"
_OPTIONS = ("-x", "-q", "-n0", "-p", "no:cacheprovider", "--timeout=45", "-W", _QUIET)
_DATABASES = ("sqlite", "postgres")
_Stats = dict[str, Any]
_INVARIANT = re.compile(r'^    "(I\d+ [^"]+)":', re.MULTILINE)


class SqlStage:
    """A copy of ours in build/mutation/sql, in which one statement at a time is wrong."""

    def __init__(self) -> None:
        stages = {one: Stage(one).folder for one in _DATABASES}
        self.folder = stages["sqlite"].with_name("sql")
        self._kept = self.folder / "results.jsonl"
        self.log = self.folder / "log"  # of the tests that ran last
        self._stats = {
            database: folder / "mutants" / "mutmut-stats.json"
            for database, folder in stages.items()
        }

    def run(self, files: Sequence[str]) -> None:
        """Each edit that is not known yet, and each that survived, of these files."""
        known = {one.name: one for one in self.mutants()}
        self._prepare()
        stats = {one: json.loads(path.read_text()) for one, path in self._stats.items()}
        self._check_that_tests_pass(stats)
        for file, source, edit in self._edits(files):
            name = _name(file, edit)
            if name in known and known[name].is_killed:
                continue
            outcome = self._try_on_both(stats, file, source, edit)
            with self._kept.open("a") as kept:
                print(json.dumps([name, file, outcome]), file=kept)
            print(f"{outcome:4} {name}", file=sys.stderr, flush=True)

    def mutants(self) -> list[Mutant]:
        """What became of the edits that still are some."""
        if not self._kept.exists():
            return []
        lines = [json.loads(line) for line in self._kept.read_text().splitlines()]
        outcomes = {name: outcome for name, _, outcome in lines}
        now = [(_name(file, edit), file) for file, _, edit in self._edits(())]
        return [
            Mutant(name, file, outcomes[name]) for name, file in now if name in outcomes
        ]

    def _check_that_tests_pass(self, stats: dict[str, _Stats]) -> None:
        """Else every edit would seem to be noticed."""
        file, source, edit = next(self._edits(("ledger/statement.py",)))
        for database in _DATABASES:
            tests = _tests(stats[database], file, source, edit)
            if self._try(file, source, tests, database) != 0:
                raise RuntimeError(f"the tests fail on {database} without any edit")

    def _try_on_both(
        self, stats: dict[str, _Stats], file: str, source: str, edit: Edit
    ) -> int | None:
        """What PostgreSQL's tests say, where those of SQLite notice nothing."""
        outcome = None
        for database in _DATABASES:
            # Without tests, pytest would run all there are.
            if tests := _tests(stats[database], file, source, edit):
                outcome = self._try(file, edit.apply(source), tests, database)
                if outcome != 0:
                    break
        return outcome

    def _edits(self, files: Sequence[str]) -> Iterator[tuple[str, str, Edit]]:
        for room in _ROOMS:
            for path in sorted((ROOT / "server" / "tallystick" / room).glob("*.py")):
                file = f"{room}/{path.name}"
                if files and file not in files:
                    continue
                source = path.read_text()
                for edit in edits(source):
                    yield file, source, edit

    def _prepare(self) -> None:
        for name, ours in (("src", "server"), ("tests", "tests")):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / ours, self.folder / name, ignore=ignored)
            compileall.compile_dir(self.folder / name, quiet=1)
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        # The mutant is compiled each time; else one of the same second and length
        # could be taken for it.
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True
        for module in _HEAVY:
            importlib.import_module(module)

    def _try(
        self, file: str, mutated: str, tests: Sequence[str], database: str
    ) -> int | None:
        """Pytest's exit code, -9 when it took too long; 0 means that nothing noticed."""
        path = self.folder / "src" / "tallystick" / file
        original = path.read_text()
        cached = Path(importlib.util.cache_from_source(str(path)))
        cached.unlink(missing_ok=True)
        path.write_text(mutated)
        try:
            child = os.fork()
            if child == 0:
                self._become(tests, database)
            return _outcome(child)
        finally:
            path.write_text(original)
            shutil.rmtree(self.folder / "tmp", ignore_errors=True)

    def _become(self, tests: Sequence[str], database: str) -> None:
        """Run the tests instead of returning; in the forked process."""
        outcome = 3
        try:
            os.setpgid(0, 0)
            os.chdir(self.folder)
            sys.path[:] = [str(self.folder / "src"), *sys.path]
            sys.stdout = sys.stderr = self.log.open("w")
            (self.folder / "tmp").mkdir(exist_ok=True)
            os.environ |= {"CI": "true", "TMPDIR": str(self.folder / "tmp")}
            import pytest  # noqa: PLC0415  # only the forked process may know it

            of = "postgres" if database == "postgres" else "not postgres"
            outcome = int(pytest.main([*_OPTIONS, "-k", of, *tests]))
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stdout.flush()
            os._exit(outcome)


def _outcome(child: int) -> int:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, 9)
    os.waitpid(child, 0)
    return -9


def _name(file: str, edit: Edit) -> str:
    return f"{file} {edit.shown}"


def _tests(stats: _Stats, file: str, source: str, edit: Edit) -> list[str]:
    module = f"tallystick.{file.removesuffix('.py').replace('/', '.')}.x"
    found = {
        test
        for function, tests in stats["tests_by_mangled_function_name"].items()
        if function.startswith(module)
        for test in tests
    }
    took = stats["duration_by_test"]
    invariants = _INVARIANT.findall(source[: edit.start])
    own = invariants[-1] if invariants else "\0"
    return sorted(found, key=lambda test: (own not in test, took.get(test, 0.0)))
