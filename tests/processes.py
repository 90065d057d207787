"""Tallystick as an operator runs it: a program with an environment.

Each is a process of its own, forked from one that has imported everything already:
starting Python and importing takes longer than most of what is tested.
"""

import asyncio
import contextlib
import ctypes
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path

import httpx

_SECONDS = 60
_numbers = itertools.count()
_warm = multiprocessing.get_context("forkserver")
_warm.set_forkserver_preload(["tallystick.cli"])


@dataclass(frozen=True)
class Ended:
    """A program that has ended, and what it said."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours, without any setting of Tallystick, and with these."""
    bare = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TALLYSTICK_")
    }
    return bare | {f"TALLYSTICK_{name}": value for name, value in settings.items()}


def _main(
    arguments: tuple[str, ...],
    settings: dict[str, str],
    folder: Path,
    said: Path,
    places: Mapping[str, str],
    variables: dict[str, str],
) -> None:
    """In the new process: become ``tallystick ARGUMENTS`` in a folder."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # die with who started us
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment(settings) | variables)
    for number, name in ((1, "out"), (2, "err")):
        place = Path(places.get(name, said.with_suffix(f".{name}")))
        with place.open("ab") as file:
            os.dup2(file.fileno(), number)
    sys.argv = ["tallystick", *arguments]
    from tallystick.cli import main

    main()


@dataclass
class Program:
    """``tallystick …``, started once.

    ``places`` may name a terminal for ``out`` or ``err``, or a file of one's own;
    ``variables`` are further ones of its environment.
    """

    arguments: tuple[str, ...]
    settings: dict[str, str]
    folder: Path
    places: Mapping[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    said: Path = field(init=False)

    def __post_init__(self) -> None:
        self.said = self.folder / f"program-{next(_numbers)}"
        values = (
            *(self.arguments, self.settings, self.folder, self.said),
            *(self.places, self.variables),
        )
        # A daemon is ended with us, should a test break before it ends its program.
        self.process = _warm.Process(target=_main, args=values, daemon=True)
        self.process.start()

    def output(self, name: str) -> str:
        file = self.said.with_suffix(f".{name}")
        return file.read_text() if file.exists() else ""

    async def end(self, number: signal.Signals | None = None) -> Ended:
        """Wait for its end, after a signal if one is given."""
        if number is not None and self.process.is_alive():
            assert self.process.pid is not None
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
        # Only one thread may take the exit code: ``start`` looks after all processes,
        # and of two who look at once the second takes what is left for a code of 255.
        await asyncio.to_thread(connection.wait, [self.process.sentinel], _SECONDS)
        code = self.process.exitcode
        if code is None:
            self.process.kill()
        assert code is not None, f"it did not end: {self.output('err')[-2000:]}"
        return Ended(code, self.output("out"), self.output("err"))


async def run(*arguments: str, cwd: Path, **settings: str) -> Ended:
    """``tallystick …`` until it ends; ``settings`` are its TALLYSTICK_ variables."""
    return await Program(arguments, settings, cwd).end()


@dataclass
class ServerProcess:
    """``tallystick serve`` in a process of its own, which can be killed."""

    settings: dict[str, str]
    folder: Path
    program: Program | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings['PORT']}"

    async def start(self) -> None:
        """Start it and wait until it takes payments."""
        self.program = Program(("serve",), self.settings, self.folder)
        async with asyncio.timeout(_SECONDS), httpx.AsyncClient() as client:
            while not await self._is_ready(client):
                is_up = self.program.process.is_alive()
                assert is_up, self.program.output("err")[-3000:]
                await asyncio.sleep(0.02)

    async def _is_ready(self, client: httpx.AsyncClient) -> bool:
        with contextlib.suppress(httpx.TransportError):
            answer = await client.get(f"{self.url}/healthz/chain")
            return answer.status_code == 200
        return False

    async def end(self, number: signal.Signals) -> Ended:
        assert self.program is not None, "it was never started"
        return await self.program.end(number)


@contextlib.asynccontextmanager
async def serving(folder: Path, **settings: str) -> AsyncIterator[ServerProcess]:
    """A server process that is gone afterwards."""
    server = ServerProcess(settings, folder)
    try:
        await server.start()
        yield server
    finally:
        if server.program is not None:
            await server.end(signal.SIGKILL)
