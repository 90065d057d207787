"""``tallystick rescan``: read blocks of the chain again, and book what is missing."""

import asyncio
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tallystick.boot import check_database
from tallystick.command_output import print_json
from tallystick.config import read_settings
from tallystick.kernel.interrupts import leave_on_termination
from tallystick.kernel.log import configure_logging
from tallystick.kernel.money import USDC_SCALE, to_decimal
from tallystick.payments.errors import NothingToRescan, TopUpsUnavailable
from tallystick.payments.observing.confirm import look_at_heights
from tallystick.payments.observing.following import cursor_of
from tallystick.payments.observing.payees import rails_of
from tallystick.payments.observing.rereading import Reread, reread
from tallystick.payments.observing.same_chain import check_chain
from tallystick.payments.reconciling.finalized import reconcile_finalized
from tallystick.paywall.gate import Gate
from tallystick.running import own_file
from tallystick.wiring import build_gate, rate_of


@dataclass(frozen=True, slots=True)
class _Rescan:
    """Which blocks were read again, what was booked, and whether books and chain agree."""

    first: int
    last: int
    done: Reread
    differences: int


def rescan(
    *,
    begin: Annotated[
        int, typer.Option("--from", min=0, metavar="BLOCK", help="The first block.")
    ],
    end: Annotated[
        int | None,
        typer.Option(
            "--to", min=0, metavar="BLOCK", help="The last; else the newest final one."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read final blocks again and book what a node kept back; exit 1 if some is left.

    A Transfer of a purchase becomes its credits, any other waits in suspense; what is
    booked is left alone. On PostgreSQL it may run beside servers. A SQLite file has one
    owner: stop the server first. The server reads by itself what it finds missing.
    """
    leave_on_termination()
    found = asyncio.run(_rescan(begin, end))
    if as_json:
        print_json(_document(found))
    else:
        _print(found)
    raise typer.Exit(0 if not found.differences else 1)


async def _rescan(begin: int, end: int | None) -> _Rescan:
    settings = read_settings()
    configure_logging("WARNING", as_json=settings.log_json)
    gate = build_gate(settings)
    try:
        with own_file(gate.db):
            await check_database(gate.db)
            await gate.db.start()
            return await _read_again(gate, begin, end)
    finally:
        await gate.db.close()
        await gate.rail.close()


async def _read_again(gate: Gate, begin: int, end: int | None) -> _Rescan:
    db, rail = gate.db, gate.rail
    await check_chain(db, rail)
    # What is final is safe: no cap lets it wait.
    _, final = await look_at_heights(rail)
    if final is None:
        raise TopUpsUnavailable("the node names no final block")
    reach = (await cursor_of(db, rail)).block_number
    last = min(final.number, reach, *([] if end is None else [end]))
    rails = await rails_of(db, rail)
    begins = [max(begin, (await cursor_of(db, one)).first_block) for one in rails]
    if min(begins) > last:
        raise NothingToRescan(min(begins), last)
    done = Reread()
    with _Bar() as bar:
        for one, first in zip(rails, begins, strict=True):
            done += await reread(
                db,
                one,
                rate_of(gate.catalog),
                first,
                last,
                hold_seconds=gate.hold_seconds,
                read_upto=bar.begin(first, last),
            )
    compared = await reconcile_finalized(db, rail, seals=False)
    return _Rescan(min(begins), last, done, len(compared.findings))


def _document(found: _Rescan) -> dict[str, Any]:
    usdc = {"usdc_in": found.done.usdc_in, "usdc_out": found.done.usdc_out}
    in_dollars = {one: to_decimal(usdc[one], USDC_SCALE) for one in usdc}
    return {
        "ok": not found.differences,
        "from": found.first,
        "to": found.last,
        **asdict(found.done),
        **in_dollars,
        "differences": found.differences,
    }


def _print(found: _Rescan) -> None:
    told = _document(found)
    typer.echo(f"read    blocks {found.first} to {found.last}")
    typer.echo(
        f"booked  {told['came_in']} in, ${told['usdc_in']:f}:"
        f" {told['credited']} credited, the others are in suspense"
    )
    typer.echo(f"        {told['went_out']} out, ${told['usdc_out']:f}")
    if found.differences:
        typer.echo("The books are not right yet: run `tallystick reconcile`.")
    else:
        typer.echo("Books and chain agree.")


class _Bar(Progress):
    """Blocks read and to read; on stderr, so that stdout keeps the result."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("reading the chain"),
            BarColumn(),
            MofNCompleteColumn(),
            console=Console(stderr=True),
        )

    def begin(self, first: int, last: int) -> "_Reader":
        """A line for one address."""
        return _Reader(self, first, last)


class _Reader:
    def __init__(self, bar: Progress, first: int, last: int) -> None:
        self._bar, self._first = bar, first
        self._task = bar.add_task("", total=max(last - first + 1, 0))

    def __call__(self, height: int) -> None:
        self._bar.update(self._task, completed=height - self._first + 1)
