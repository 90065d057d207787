"""``tallystick backup`` and ``tallystick restore``."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tallystick.audit import audit
from tallystick.backups.archive import Header
from tallystick.backups.restore import restore_backup
from tallystick.backups.take import take_backup
from tallystick.boot import check_database, reachable
from tallystick.config import read_settings
from tallystick.kernel.db import Database, open_database
from tallystick.kernel.interrupts import leave_on_termination
from tallystick.running import own_file
from tallystick.safe_settings import check_database_url

File = Annotated[Path, typer.Argument(dir_okay=False)]
AcceptBrokenSeals = Annotated[
    bool,
    typer.Option(
        "--accept-broken-seals",
        help="Go on with books of an older schema that are not as they were sealed.",
    ),
]
Work = Callable[[Database, "_Bar"], Coroutine[Any, Any, Header]]


def backup(file: File) -> None:
    """Write all books, as they are at one moment, to a new file; serving goes on.

    It holds no SECRET_KEY and no relayer's key: keep those apart. Nobody but you may
    read the file.
    """
    header = asyncio.run(_run(lambda db, bar: _take(db, file, bar)))
    typer.echo(f"{_told(header)} are in {file}.")


def restore(file: File, *, accept_broken_seals: AcceptBrokenSeals = False) -> None:
    """Fill an empty database, SQLite or PostgreSQL, from a backup, and audit it.

    Set DATABASE_URL to the new database, and SECRET_KEY to that of the old one: keys
    and open offers depend on it.
    """
    header = asyncio.run(
        _run(lambda db, bar: _restore(db, file, bar, accept_broken_seals))
    )
    taken = datetime.fromtimestamp(header.taken_at_ms // 1000, UTC)
    typer.echo(f"{_told(header)} of {taken:%Y-%m-%d %H:%M:%S} UTC are restored.")
    typer.echo("Everything adds up. Start `tallystick serve`: it reads the chain on.")


def _told(header: Header) -> str:
    tables = sum(1 for count in header.rows.values() if count)
    return f"{sum(header.rows.values()):,} rows of {tables} tables"


async def _take(db: Database, file: Path, bar: "_Bar") -> Header:
    await check_database(db)
    await db.measure_clock()
    return await take_backup(db, file, bar.begin, bar.advance_table)


async def _restore(
    db: Database,
    file: Path,
    bar: "_Bar",
    accept_broken_seals: bool,  # noqa: FBT001  # handed on by name
) -> Header:
    with own_file(db), reachable():
        header = await restore_backup(
            db,
            file,
            bar.begin,
            bar.advance_table,
            accept_broken_seals=accept_broken_seals,
        )
    bar.say("Auditing the restored books")
    report = await audit(db, None)
    for one in report.findings:
        typer.echo(f"BROKEN  {one.invariant}: {one.detail}")
    if not report.ok:
        typer.echo("The books are not right; they were not when the backup was taken.")
        raise typer.Exit(1)
    return header


async def _run(work: Work) -> Header:
    leave_on_termination()
    url = read_settings().database_url
    check_database_url(url)
    db = open_database(url)
    try:
        with _Bar() as bar:
            return await work(db, bar)
    finally:
        await db.close()


class _Bar(Progress):
    """Rows done and to do; on stderr, so that stdout keeps the result."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description:24}"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
        )

    def begin(self, header: Header) -> None:
        self._rows = self.add_task("", total=sum(header.rows.values()))

    def advance_table(self, table: str, rows: int) -> None:
        self.update(self._rows, description=table, advance=rows)

    def say(self, words: str) -> None:
        self.update(self._rows, description=words)
