"""A service manager ends a command at any moment, and its files are whole or gone."""

import signal
import subprocess
import sys
from pathlib import Path

_WRITES = """
import asyncio, pathlib, sys
from tallystick.kernel.interrupts import leave_on_termination
from tallystick.kernel.new_file import NewFile

async def write():
    with NewFile(pathlib.Path(sys.argv[1])) as file:
        file.raw.write(b"half of it")
        print("begun", flush=True)
        await asyncio.sleep(60)

leave_on_termination()
asyncio.run(write())
"""


def test_a_command_that_is_told_to_end_leaves_no_file(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES, str(tmp_path / "b")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "begun\n"
        assert [one.suffix for one in tmp_path.iterdir()] == [".part"]
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 143
    assert list(tmp_path.iterdir()) == []
