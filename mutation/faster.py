"""mutmut, but all tests are collected once, before it forks for each mutant.

Most mutants are killed by the first test, and it takes ten times as long to start pytest
and to collect that test. So the process from which mutmut forks holds a session of pytest
that is ready to run: collected, with the migrated template or the cluster in place. It
imports nothing that a mutant could change, for mutmut decides at each call. A program of
its own, started in the folder where mutmut works.

Of the tests of a mutant, those that killed others lately go first: its neighbours are
mostly killed by the same. mutmut begins with the quickest.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from functools import _lru_cache_wrapper
from pathlib import Path

import pytest
from _pytest.config import _prepareconfig
from mutmut.__main__ import cli
from mutmut.configuration import config
from mutmut.runners.harness import PytestRunner
from mutmut.utils.file_utils import change_cwd
from mutmut.workers.isolation import ForkRunner

# Without -x: a failed test would then end the session, and PostgreSQL with it, and every
# mutant that follows would seem to be killed. Whoever runs them stops by himself.
_OPTIONS = ("--rootdir=.", "-q", "-o", "tmp_path_retention_policy=none")
_SOME = 20
_KILLERS = Path("killers.txt")  # beside the mutants; told by one child to the next
_LATELY = 12
_run_alone = PytestRunner.run_tests
_start, _end = ForkRunner.startup, ForkRunner.shutdown


class _Ready:
    """A session of pytest between its collection and its end."""

    def __init__(self) -> None:
        chosen = config().pytest_add_cli_args_test_selection
        arguments = [*_OPTIONS, *config().pytest_add_cli_args, *chosen]
        self._config = _prepareconfig(arguments)
        self._config._do_configure()  # noqa: SLF001  # as pytest.main does
        self._session = pytest.Session.from_config(self._config)
        self._config.hook.pytest_sessionstart(session=self._session)
        self._config.hook.pytest_collection(session=self._session)
        self._by_id = {one.nodeid: one for one in self._session.items}
        self._warm_up()

    def _warm_up(self) -> None:
        """Let a test make what all share, such as the template of the database.

        Then some must pass in a fork, or every mutant would seem to be killed.
        """
        databases = [
            one
            for one in self._session.items
            if "db" in getattr(one, "fixturenames", ())
        ]
        some = databases[:: len(databases) // _SOME]
        if self._first_failure(some[:1]) or _outcome_in_a_fork(self, some):
            raise RuntimeError("a test fails without any mutant")

    def outcome(self, tests: Iterable[str]) -> int:
        """As pytest's exit code: 1 when a test fails, 0 when none does."""
        items = [self._by_id[one] for one in _killers_first(list(tests))]
        return int(self._first_failure(items))

    def _first_failure(self, items: Sequence[pytest.Item]) -> bool:
        # The last one ends as well, which a test does when another follows.
        first, *_, last = self._session.items
        following = [*items[1:], last if items[-1] is first else first]
        # What is left of the test before belongs to others.
        self._session._setupstate.teardown_exact(items[0])  # noqa: SLF001  # pytest's own loop would
        for item, then in zip(items, following, strict=True):
            hook = self._config.hook
            hook.pytest_runtest_protocol(item=item, nextitem=then)
            if self._session.testsfailed:
                _remember(item.nodeid)
                return True
        return False

    def end(self) -> None:
        self._session._setupstate.teardown_exact(None)  # noqa: SLF001  # likewise


def _outcome_in_a_fork(ready: _Ready, items: Sequence[pytest.Item]) -> int:
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  # for all its life
        os._exit(_quietly(ready, [one.nodeid for one in items]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _quietly(ready: _Ready, tests: Iterable[str]) -> int:
    # pytest puts its own in its place, and a file that is dropped while it is open is an
    # error of the test that runs just then.
    _open.append(sys.stdout)
    return ready.outcome(tests)


def _killers() -> list[str]:
    return _KILLERS.read_text().splitlines() if _KILLERS.exists() else []


def _killers_first(tests: Sequence[str]) -> list[str]:
    among = set(tests)
    return list(dict.fromkeys([*(one for one in _killers() if one in among), *tests]))


def _remember(killer: str) -> None:
    lately = list(dict.fromkeys([killer, *_killers()]))[:_LATELY]
    _KILLERS.write_text("".join(f"{one}\n" for one in lately))


def _forget_cached() -> None:
    """What the session has cached was made without a mutant, which would never run."""
    for name, module in list(sys.modules.items()):
        if name.startswith("tallystick."):
            for one in list(vars(module).values()):
                if isinstance(one, _lru_cache_wrapper):
                    one.cache_clear()


_ready: list[_Ready] = []
_open: list[object] = []


def _startup(self: ForkRunner) -> None:
    with change_cwd(Path("mutants")):
        _ready.append(_Ready())
    _start(self)


def _shutdown(self: ForkRunner) -> None:
    _end(self)
    for one in _ready:
        one.end()


def _run_tests(
    self: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]
) -> int:
    if mutant_name is None:
        return int(_run_alone(self, mutant_name=None, tests=tests))
    _forget_cached()
    with change_cwd(Path("mutants")):
        return _quietly(_ready[0], tests)


if __name__ == "__main__":
    ForkRunner.startup, ForkRunner.shutdown = _startup, _shutdown
    PytestRunner.run_tests = _run_tests
    cli()
