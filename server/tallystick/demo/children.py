"""Child processes that never outlive the demo.

Each runs in a process group of its own, so that Ctrl-C reaches the demo alone and what
a child starts ends with it. On Linux the kernel kills the child when the demo dies,
however that happens; elsewhere a kill -9 of the demo leaves them running.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tallystick.chain.guarded import guarded

_LINE_LIMIT_BYTES = 4 * 1024 * 1024
_STOP_SECONDS = 5


class Child:
    """A running program; ``log`` is the file that its words go to."""

    def __init__(self, running: asyncio.subprocess.Process, log: Path) -> None:
        self._running = running
        self.log = log

    @property
    def exit_code(self) -> int | None:
        """None as long as it runs."""
        return self._running.returncode

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """What it prints, line by line as it comes; only if its output is piped."""
        assert self._running.stdout is not None, "its output goes to the log"
        async for line in self._running.stdout:
            yield line

    async def ended(self) -> int:
        """Wait for its end; the exit code."""
        return await self._running.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2_000:].strip()

    async def stop(self) -> None:
        """End it and its group: first with a request, then by force."""
        if self.exit_code is None:
            self._signal_group(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._running.wait()
        # What it has started may have ignored the request.
        self._signal_group(signal.SIGKILL)
        await self._running.wait()

    def _signal_group(self, which: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._running.pid, which)


@asynccontextmanager
async def child(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: Path,
    log: Path,
    is_piped: bool = False,
) -> AsyncIterator[Child]:
    """A program for as long as the context lasts; ``command[0]`` is its full path."""
    with log.open("ab") as words:
        running = await asyncio.create_subprocess_exec(
            *guarded(command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if is_piped else words,
            stderr=words,
            cwd=folder,
            env=environment,
            limit=_LINE_LIMIT_BYTES,
            start_new_session=True,
        )
    started = Child(running, log)
    try:
        yield started
    finally:
        await asyncio.shield(started.stop())


def plain_environment() -> dict[str, str]:
    """Our own environment without anybody's Tallystick settings.

    A proxy of this machine is not asked for what listens on loopback.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("TALLYSTICK_")
    }
    return kept | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
