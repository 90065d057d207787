"""The command line: every command, and how a failure of one is told."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer
import uvicorn
from rich.console import Console

from tallystick import migrations
from tallystick.app import create_app
from tallystick.audit import AuditReport
from tallystick.audit import audit as run_audit
from tallystick.backup_commands import AcceptBrokenSeals, backup, restore
from tallystick.boot import check_address, check_database, reachable
from tallystick.command_output import print_json
from tallystick.config import UnreadableSettings, new_secret_key, read_settings
from tallystick.demo.chain_command import chain
from tallystick.demo.command import demo
from tallystick.doctor.command import doctor
from tallystick.export_commands import export
from tallystick.http_limit import BoundedProtocol, connections_allowed
from tallystick.kernel.db import Database, open_database
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.interrupts import interrupt_normally
from tallystick.kernel.log import configure_logging
from tallystick.kernel.owner import AlreadyOwned
from tallystick.ledger.links import Head
from tallystick.merchant_commands import merchant
from tallystick.operator_commands import acts, debt, review
from tallystick.payback_commands import payback
from tallystick.reconcile_command import reconcile
from tallystick.rescan_command import rescan
from tallystick.running import own_file, preflight
from tallystick.safe_settings import UnsafeSettings, check_database_url
from tallystick.service_keys import service_key
from tallystick.wiring import build_gate
from tallystick.worker_command import worker

R = TypeVar("R")
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A prepaid credit server for APIs: USDC over x402 in, credits out.",
)
_errors = Console(stderr=True, highlight=False)
_TAKES_SIGNALS = {"demo", "chain"}


def main() -> None:
    """Run the command line; an expected failure is told in words, with exit code 2."""
    try:
        app()
    except UnsafeSettings as error:
        _tell("Tallystick will not start:", error.problems)
    except UnreadableSettings as error:
        _tell("The settings cannot be read:", error.problems)
    except AlreadyOwned as error:
        _tell("Tallystick will not start:", [str(error)])
    except TallystickError as error:
        lines = [f"{name}: {value}" for name, value in error.for_operator.items()]
        _tell(error.title, [*filter(None, (error.detail, error.next_step)), *lines])
    sys.exit(2)


@app.callback()
def _begin(context: typer.Context) -> None:
    # These have begun nothing until they take the signals over themselves.
    if context.invoked_subcommand not in _TAKES_SIGNALS:
        interrupt_normally()


def _tell(title: str, lines: list[str]) -> None:
    _errors.print(title, style="bold red")
    for line in lines:
        # A path that is broken over two lines cannot be copied.
        _errors.print(f"  {line}", markup=False, soft_wrap=True)


def _with_database(work: Callable[[Database], Coroutine[Any, Any, R]]) -> R:
    url = read_settings().database_url
    check_database_url(url)

    async def run() -> R:
        db = open_database(url)
        try:
            return await work(db)
        finally:
            await db.close()

    return asyncio.run(run())


app.command()(demo)
app.command()(chain)
app.command()(doctor)
app.command()(backup)
app.command()(restore)
app.command()(reconcile)
app.command()(rescan)
app.command()(worker)
app.command()(acts)
app.add_typer(service_key, name="service-key")
app.add_typer(merchant, name="merchant")
app.add_typer(export, name="export")
app.add_typer(review, name="review")
app.add_typer(debt, name="debt")
app.add_typer(payback, name="payback")


@app.command()
def serve() -> None:
    """Serve the API, with the settings of the environment or tallystick.toml."""
    settings = read_settings()
    configure_logging(settings.log_level, as_json=settings.log_json)
    asyncio.run(preflight(settings))
    check_address(settings.host, settings.port)
    BoundedProtocol.connection_limit = connections_allowed()
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        # PUBLIC_URL says where clients find us; whoever connects says nothing of it.
        proxy_headers=False,
        timeout_graceful_shutdown=10,
    )


@app.command()
def migrate(*, accept_broken_seals: AcceptBrokenSeals = False) -> None:
    """Bring the database to the schema of this version."""

    async def upgrade(db: Database) -> None:
        with own_file(db), reachable():
            await migrations.upgrade(db, accept_broken_seals=accept_broken_seals)

    _with_database(upgrade)
    typer.echo("The database is up to date.")


def _noted_seal(note: str) -> Head:
    try:
        return Head.noted(note)
    except ValueError as error:
        raise typer.BadParameter(
            "write it as an audit told it: the number, a colon, 64 hexadecimal digits"
        ) from error


@app.command()
def audit(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    books_only: Annotated[
        bool, typer.Option("--books-only", help="Do not ask the chain.")
    ] = False,
    seal: Annotated[
        list[Head] | None,
        typer.Option(
            parser=_noted_seal,
            metavar="NUMBER:DIGEST",
            help="A seal that an earlier audit told; it must still be there.",
        ),
    ] = None,
) -> None:
    """Prove the books, in themselves and against the chain; exit 1 if anything is off."""
    report = asyncio.run(_audit(books_only=books_only, noted=seal or []))
    document = report.document()
    if as_json:
        print_json(document)
    else:
        _print_report(document)
    raise typer.Exit(0 if report.ok else 1)


async def _audit(*, books_only: bool, noted: list[Head]) -> AuditReport:
    if books_only:
        url = read_settings().database_url
        check_database_url(url)
        db, rail = open_database(url), None
    else:
        gate = build_gate(read_settings())
        db, rail = gate.db, gate.rail
    try:
        await check_database(db)
        return await run_audit(db, rail, noted=noted)
    finally:
        await db.close()
        if rail is not None:
            await rail.close()


def _print_report(document: dict[str, Any]) -> None:
    if "ledger_usdc" in document:
        typer.echo(f"ledger  ${document['ledger_usdc']:f}")
        typer.echo(f"chain   ${document['chain_usdc']:f} at block {document['block']}")
    if (seal := document["seal"]) is None:
        typer.echo("sealed  nothing yet")
    else:
        through = datetime.fromtimestamp(seal["through_ms"] // 1000, UTC)
        typer.echo(f"sealed  up to {through:%Y-%m-%d %H:%M:%S} UTC")
        typer.echo(f"seal    {seal['number']}:{seal['digest']}")
    for one in document["findings"]:
        typer.echo(f"BROKEN  {one['invariant']}: {one['detail']}")
    typer.echo("Everything adds up." if document["ok"] else "The books are not right.")


@app.command()
def secret() -> None:
    """Make a SECRET_KEY."""
    typer.echo(new_secret_key())
