"""``tallystick demo``."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from tallystick.command_output import print_json
from tallystick.demo.clients import find_clients
from tallystick.demo.ending import tell_audit
from tallystick.demo.errors import StoryBroke
from tallystick.demo.sabotage import Sabotage, sabotage
from tallystick.demo.stage import set_stage
from tallystick.demo.story import keep_open, tell, tell_briefly
from tallystick.demo.telling import Record, Teller
from tallystick.kernel.errors import TallystickError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FAILED = 1


def demo(
    *,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object; tell the story on stderr."),
    ] = False,
    keep: Annotated[
        bool, typer.Option(help="Leave everything running until Ctrl-C.")
    ] = False,
    harm: Annotated[
        Sabotage | None,
        typer.Option(
            "--sabotage",
            hidden=True,
            help="Tamper with the books: prove that the audit would notice.",
        ),
    ] = None,
) -> None:
    """See the main job: stock x402 wallets pay on a local chain and spend credits."""
    record = Record()
    teller = Teller(Console(stderr=as_json, highlight=False))
    work = _perform(teller, record, harm=harm, keep=keep, as_json=as_json)
    try:
        asyncio.run(_until_signal(work))
    except (TallystickError, httpx.HTTPError) as error:
        record.error = f"{type(error).__name__}: {error}"
        _tell_failure(teller, error)
        _print(record, as_json=as_json)
        raise typer.Exit(_FAILED) from error


async def _perform(
    teller: Teller,
    record: Record,
    *,
    harm: Sabotage | None,
    keep: bool,
    as_json: bool,
) -> None:
    clients = await find_clients()
    # Books with one payment are enough to see whether the audit is awake.
    story = tell if harm is None else tell_briefly
    teller.title("Tallystick: stock x402 wallets pay, get credits and spend them")
    teller.line("starting", "a chain and a server of our own")
    async with set_stage() as stage:
        try:
            key = await story(stage, teller, record, clients)
        except (TallystickError, httpx.HTTPError):
            teller.note(f"The server's last words:\n{stage.server.last_words()}")
            raise
        if harm is not None:
            teller.bad(f"\nNow the books are tampered with: {harm}. Is it noticed?")
            sabotage(stage.database, harm)
        await tell_audit(stage, teller, record)
        _print(record, as_json=as_json)
        if keep:
            await keep_open(stage, teller, key)


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; a signal cancels it once, so that it can put everything away.

    Raises ``typer.Exit`` with a shell's code for a signal, as soon as that is done.
    """
    task = asyncio.ensure_future(work)
    seen: list[int] = []

    def stop(number: int) -> None:
        # The second Ctrl-C of an impatient person must not interrupt the clean-up.
        if not seen:
            task.cancel()
        seen.append(number)

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not seen:
            raise
        raise typer.Exit(128 + seen[0]) from None


def _tell_failure(teller: Teller, error: Exception) -> None:
    title = getattr(error, "title", StoryBroke.title)
    teller.bad(f"\n{title}: {error}")
    next_step = getattr(error, "next_step", None)
    if next_step:
        teller.plain(f"  {next_step}")


def _print(record: Record, *, as_json: bool) -> None:
    if as_json:
        print_json(record.document())
        sys.stdout.flush()
