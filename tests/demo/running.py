"""The demo as a program, and everything that it has started."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

CHECKOUT = Path(__file__).resolve().parents[2]
_MARK = "DEMO_TEST_MARK"
_PATIENCE_SECONDS = 100


@dataclass
class Demo:
    """A running demo. What it starts inherits a mark, in whatever group it is."""

    folder: Path
    options: tuple[str, ...] = ()
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __enter__(self) -> Self:
        self.stderr = (self.folder / "stderr").open("wb")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-c", "from tallystick.program import main; main()"),
                *("demo", *self.options),
            ],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            cwd=self.folder,
            env=os.environ | {_MARK: self.mark, "TMPDIR": str(self.folder)},
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)
        self.out.close()
        self.stderr.close()

    @property
    def out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def told(self) -> str:
        """What it has said on stderr."""
        return (self.folder / "stderr").read_text()

    def until(self, words: str) -> list[str]:
        """The lines on stdout up to the one that holds the words."""
        lines = []
        for raw in self.out:
            lines.append(raw.decode())
            if words in lines[-1]:
                return lines
        raise AssertionError(f"never said {words!r}: {lines} {self.told}")

    def exit_code(self) -> int:
        return self.process.wait(_PATIENCE_SECONDS)

    def document(self) -> Any:
        """The one JSON object that all of stdout is."""
        return json.loads(self.out.read())

    def family(self) -> dict[int, str]:
        """Every living process with the mark, the demo included: id and command."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                words = (folder / "cmdline").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if f"{_MARK}={self.mark}".encode() in environment and state != "Z":
                found[int(folder.name)] = words.replace(b"\0", b" ").decode()
        return found

    def everybody_is_gone(self) -> bool:
        """Whether nothing that it started is left, within two seconds."""
        for _ in range(200):
            if not self.family():
                return True
            time.sleep(0.01)
        return False
