"""Where mutmut works: build/mutation/<database>, with links to what is ours.

mutmut finds imports below `src` or beside its settings, and nowhere else; our code is in
`server`. It changes nothing here: it writes all of its mutants into `mutants`, a copy.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from mutation.results import forget_survivors

ROOT = Path(__file__).parents[1]
_BUILD = ROOT / "build" / "mutation"
_LINKS = {"src": "server", "tests": "tests", "pyproject.toml": "pyproject.toml"}
# What pytest is told besides what [tool.mutmut] says: the tests of one database.
_ONLY = {"sqlite": "not postgres", "postgres": "postgres"}


class Stage:
    """The folder of a campaign on one database."""

    def __init__(self, database: str) -> None:
        self.folder = _BUILD / database
        self._only = _ONLY[database]
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, target in _LINKS.items():
            link = self.folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(os.path.relpath(ROOT / target, self.folder))

    def _forget_if_changed(self) -> None:
        told = self.folder / "mutants" / "ours.sha256"
        folders = (ROOT / "tests", ROOT / "server")
        files = [one for folder in folders for one in sorted(folder.rglob("*.py"))]
        now = sha256(b"".join(one.read_bytes() for one in files)).hexdigest()
        if told.exists() and told.read_text() == now:
            return
        (self.folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
        forget_survivors(self.folder)
        self._copy_what_is_no_code()
        told.parent.mkdir(exist_ok=True)
        told.write_text(now)

    def _copy_what_is_no_code(self) -> None:
        """It is copied only once by mutmut, and a README is a test of what it tells."""
        copied = self.folder / "mutants" / "src"
        for one in (ROOT / "server").rglob("*"):
            copy = copied / one.relative_to(ROOT / "server")
            if copy.is_file() and one.suffix not in {".py", ".pyc"}:
                shutil.copyfile(one, copy)

    def run(self, mutants: Sequence[str], children: int) -> None:
        """Run these mutants (patterns may be among them), or all not yet known.

        Where tests or code have changed since, it is found out anew which of them go through
        which function, and what survived the old ones is not known any more.
        """
        self._forget_if_changed()
        temporary = self.folder / "tmp"  # what killed tests leave behind
        temporary.mkdir(exist_ok=True)
        environment = os.environ | {
            "CI": "true",
            "PYTEST_ADDOPTS": f"-k '{self._only}'",
            "TMPDIR": str(temporary),
        }
        mutmut = Path(__file__).with_name("faster.py")
        run = [sys.executable, str(mutmut), "run", "--max-children", str(children)]
        try:
            subprocess.run(
                [*run, *mutants], cwd=self.folder, env=environment, check=True
            )
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
