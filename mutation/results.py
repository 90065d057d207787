"""What became of the mutants, read from what mutmut keeps of each file."""

import ast
import difflib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# pytest's exit codes: a test failed, or pytest itself did not survive the mutant.
_KILLED = {1, 3}
# SIGXCPU and SIGKILL by mutmut's clock, however the system spells them.
_TIMED_OUT = {-24, 24, 152, 36, 255, -9}


@dataclass(frozen=True)
class Mutant:
    """One change of one function; ``outcome`` is pytest's exit code, None if not run."""

    name: str
    file: str
    outcome: int | None

    @property
    def is_killed(self) -> bool:
        return self.outcome in _KILLED

    @property
    def has_timed_out(self) -> bool:
        return self.outcome in _TIMED_OUT

    @property
    def function(self) -> str:
        """As the source spells it: ``LottedAccount.spend``; ``SQL`` for a statement."""
        if "__mutmut_" not in self.name:
            return "SQL"
        mangled = self.name.rpartition(".")[2].rpartition("__mutmut_")[0]
        return mangled.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")


def mutants_of(folder: Path) -> list[Mutant]:
    """Those in a stage's folder, in the order of their files."""
    source = folder / "mutants" / "src" / "tallystick"
    found = []
    for kept in sorted(source.rglob("*.py.meta")):
        file = kept.relative_to(source).as_posix().removesuffix(".meta")
        outcomes = json.loads(kept.read_text())["exit_code_by_key"]
        found += [Mutant(name, file, outcome) for name, outcome in outcomes.items()]
    return found


def forget_survivors(folder: Path) -> None:
    """Let mutmut run again what no test has killed."""
    for kept in (folder / "mutants" / "src" / "tallystick").rglob("*.py.meta"):
        known = json.loads(kept.read_text())
        outcomes = known["exit_code_by_key"]
        for name, outcome in outcomes.items():
            if outcome not in _KILLED:
                outcomes[name] = None
        kept.write_text(json.dumps(known))


def change(folder: Path, mutant: Mutant) -> str:
    """The lines that the mutant takes out (``-``) and puts in (``+``), in one."""
    path = folder / "mutants" / "src" / "tallystick" / mutant.file
    name = mutant.name.rpartition(".")[2]
    source = path.read_text()
    bodies = _bodies(source)
    was = bodies[f"{name.rpartition('__mutmut_')[0]}__mutmut_orig"]
    became = bodies[name]
    lines = [line for line in difflib.ndiff(was, became) if line[0] in "+-"]
    return " ".join(f"{line[0]} {line[2:].strip()}" for line in lines)


@cache
def _bodies(source: str) -> dict[str, list[str]]:
    """The lines of every function, without the name in the first of them."""
    lines = source.splitlines()
    return {
        node.name: [
            lines[node.lineno - 1].replace(node.name, ""),
            *lines[node.lineno : node.end_lineno],
        ]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
