"""mutmut, but some tests are tried before the others are even looked for.

Most mutants are killed by almost any test, and to collect hundreds of tests takes longer
than to run some. A program of its own, started in the folder where mutmut works.
"""

from collections.abc import Iterable

from mutmut.__main__ import cli
from mutmut.runners.harness import PytestRunner

_SOME = 12
_run_all = PytestRunner.run_tests


def _run_some_first(
    self: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]
) -> int:
    """Pytest's exit code. ``tests`` come with the quickest first."""
    every = list(tests)
    if mutant_name is None or len(every) < 4 * _SOME:
        return int(_run_all(self, mutant_name=mutant_name, tests=every))
    some = every[: len(every) // 2 : len(every) // (2 * _SOME)]
    failed = _run_all(self, mutant_name=mutant_name, tests=some)
    if failed:
        return int(failed)
    others = [one for one in every if one not in some]
    return int(_run_all(self, mutant_name=mutant_name, tests=others))


if __name__ == "__main__":
    PytestRunner.run_tests = _run_some_first
    cli()
