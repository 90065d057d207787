"""``tallystick export``: a customer's statement, or the whole journal, as a file."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from tallystick.boot import open_books
from tallystick.config import read_settings
from tallystick.customers.wallets import named_customer
from tallystick.exports.files import Export, Format, Period, period, written_as
from tallystick.exports.journal import export_journal
from tallystick.exports.statement import export_statement
from tallystick.kernel.db import Database
from tallystick.kernel.interrupts import leave_on_termination
from tallystick.kernel.new_file import NewFile

Source = Callable[[Database, Period], AbstractAsyncContextManager[Export]]


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        problem = "write a date or a time as ISO 8601 has it: 2026-11-01"
        raise typer.BadParameter(problem) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


As = Annotated[Format, typer.Option("--format", help="csv, or jsonl (JSON Lines).")]
From = Annotated[
    datetime | None,
    typer.Option("--from", parser=_time, metavar="TIME", help="Booked then or later."),
]
To = Annotated[
    datetime | None,
    typer.Option("--to", parser=_time, metavar="TIME", help="Booked before then."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", dir_okay=False, help="A new file; otherwise stdout."),
]

export = typer.Typer(
    no_args_is_help=True,
    help="Write a customer's statement, or the whole journal, as CSV or JSON Lines.",
)


@export.command()
def statement(
    customer: Annotated[str, typer.Argument(help="Its id (cus_…) or a wallet (0x…).")],
    *,
    file_format: As = Format.CSV,
    begin: From = None,
    end: To = None,
    out: Out = None,
) -> None:
    """Write all lines of a customer, oldest first. A date without zone is UTC's."""

    @asynccontextmanager
    async def source(db: Database, wanted: Period) -> AsyncIterator[Export]:
        async with db.read() as session:
            customer_id = await named_customer(session, customer)
        yield await export_statement(db, customer_id, wanted)

    _write(source, file_format, period(begin, end), out)


@export.command()
def journal(
    *,
    file_format: As = Format.CSV,
    begin: From = None,
    end: To = None,
    out: Out = None,
) -> None:
    """Write every transfer with its two accounts, in the order of booking.

    A date without zone is UTC's. All is of one moment; serving goes on.
    """
    _write(export_journal, file_format, period(begin, end), out)


def _write(
    source: Source, file_format: Format, wanted: Period, out: Path | None
) -> None:
    leave_on_termination()
    rows = asyncio.run(_run(source, file_format, wanted, out))
    if out is not None:
        typer.echo(f"{rows:,} lines are in {out}.")


async def _run(
    source: Source, file_format: Format, wanted: Period, out: Path | None
) -> int:
    rows = 0
    async with (
        open_books(read_settings().database_url) as db,
        source(db, wanted) as found,
    ):
        with _opened(out) as file, _bar(out) as bar:
            task = bar.add_task("", total=found.total)
            async for part in written_as(file_format, found):
                file.write(part.text)
                rows += part.rows
                bar.update(task, advance=part.looked_at)
    return rows


@contextmanager
def _opened(out: Path | None) -> Iterator[BinaryIO]:
    if out is None:
        yield sys.stdout.buffer
        return
    with NewFile(out) as file:
        yield file.raw


def _bar(out: Path | None) -> Progress:
    """On stderr, for people only; it must not run through lines on one terminal."""
    is_apart = out is not None or not sys.stdout.isatty()
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not (sys.stderr.isatty() and is_apart),
    )
