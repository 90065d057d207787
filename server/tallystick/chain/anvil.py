"""The anvil program as a child that never outlives us.

It is started as a file in its own process group, never through npx, whose end orphans
it. It is killed at ``stop``, at the interpreter's regular exit and, on Linux, whenever
the thread that started it ends (``guarded``). Windows is not supported.
"""

import atexit
import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tallystick.chain.guarded import guarded
from tallystick.kernel.errors import NotFound, Unavailable

CHECKOUT = Path(__file__).resolve().parents[3]
_STOP_SECONDS = 2
_LISTENING = re.compile(r"Listening on \S+:(\d+)")


class AnvilMissing(NotFound):
    """No anvil program is to be found on this machine."""

    is_for_operators = True
    next_step = (
        "Run `npm ci --omit=dev --ignore-scripts` in contracts/, or install Foundry, "
        "or set TALLYSTICK_ANVIL to the program's path."
    )


class AnvilFailed(Unavailable):
    """Anvil did not start."""

    is_for_operators = True
    next_step = (
        "If the port is taken, choose another with --port. Else run the program by hand"
        " to see what is wrong."
    )


def find_anvil(given: str | os.PathLike[str] | None = None) -> Path:
    """The program: as given, from TALLYSTICK_ANVIL, on PATH, or among npm's files.

    Raises ``AnvilMissing``; a path that was named and is no program is not passed over.
    """
    named = given or os.environ.get("TALLYSTICK_ANVIL")
    if named:
        return _program(Path(named))
    on_path = shutil.which("anvil")
    return _program(Path(on_path) if on_path else _npm_program())


def _npm_program() -> Path:
    machine = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}
    here = platform.machine()
    package = f"anvil-{sys.platform}-{machine.get(here, here)}"
    modules = CHECKOUT / "contracts" / "node_modules" / "@foundry-rs"
    return modules / package / "bin" / "anvil"


def _program(path: Path) -> Path:
    if not os.access(path, os.X_OK) or path.is_dir():
        raise AnvilMissing(f"there is no anvil program at {path}")
    return path


class AnvilProcess:
    """One running anvil, on loopback unless told otherwise; its output goes to a file.

    ``port`` 0 lets the kernel choose. What it says it listens on is read from its own
    words: a port that answers may as well be another program's.
    """

    def __init__(
        self,
        program: Path,
        options: Sequence[str] = (),
        *,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self._command = [str(program), *options, f"--host={host}", f"--port={port}"]
        self._output: IO[bytes] | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def log(self) -> Path | None:
        """Where its output can be read while it runs."""
        return Path(self._output.name) if self._output else None

    def start(self) -> None:
        """Start the program in its own group, so that Ctrl-C reaches us alone."""
        self._output = tempfile.NamedTemporaryFile(prefix="anvil-")  # noqa: SIM115 - lives as long as the child
        self._child = subprocess.Popen(  # noqa: S603 - the program that the operator named
            guarded(self._command),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        atexit.register(self.kill)

    def port(self) -> int | None:
        """The port once it listens, None until then; ``AnvilFailed`` when it ended."""
        assert self._child is not None, "anvil is not started"
        ended = self._child.poll()
        words = self.log.read_text(errors="replace") if self.log else ""
        if ended is not None:
            told = words[-500:].strip() or "it said nothing"
            raise AnvilFailed(f"anvil ended with {ended}: {told}")
        found = _LISTENING.search(words)
        return int(found.group(1)) if found else None

    def kill(self) -> None:
        """End the whole group and wait for it; does nothing the second time."""
        atexit.unregister(self.kill)
        child, self._child = self._child, None
        output, self._output = self._output, None
        if child is not None:
            _end_group(child)
        if output is not None:
            output.close()


def _end_group(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
