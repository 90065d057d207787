"""``tallystick service-key``: the keys of the seller's own servers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from tallystick.boot import check_database, open_books
from tallystick.command_output import print_json, to_the_second
from tallystick.config import Settings, read_settings
from tallystick.identity.keys import (
    NewKey,
    Scope,
    issue_key,
    list_service_keys,
    revoke_key,
)
from tallystick.identity.models import ApiKey, KeyKind
from tallystick.kernel.db import Database
from tallystick.kernel.ids import decode_id, encode_id
from tallystick.wiring import build_gate

R = TypeVar("R")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Option(help="What the key is for.")]

service_key = typer.Typer(
    help="Make, list and revoke the keys (sk_…) of the seller's own servers."
)


@service_key.callback(invoke_without_command=True)
def service_keys(context: typer.Context, name: Name = "server") -> None:
    """Make, list and revoke the keys (sk_…) of the seller's own servers.

    Without a command it makes one, as ``create`` does.
    """
    if context.invoked_subcommand is None:
        create(name=name)


@service_key.command()
def create(*, name: Name = "server", as_json: Json = False) -> None:
    """Make a key; its secret is shown once, its id stays."""
    if not name.isprintable():
        raise typer.BadParameter("a name is one printable line.")
    made = asyncio.run(_create(read_settings(), name))
    shown = encode_id("key", made.id)
    if as_json:
        print_json({"id": shown, "name": name, "secret": made.secret})
        return
    # The secret alone is on stdout, so that a script can keep it.
    typer.echo(f"{shown} is the id of this key, for list and revoke:", err=True)
    typer.echo(made.secret)


@service_key.command(name="list")
def list_(*, as_json: Json = False) -> None:
    """Show all keys, newest first; never a secret."""
    rows = [_row(one) for one in asyncio.run(_with_database(_list))]
    if as_json:
        print_json({"keys": rows})
        return
    for row in rows:
        ended = f"revoked {row['revoked_at']}" if row["revoked_at"] else "active"
        typer.echo(f"{row['id']}  created {row['created_at']}  {ended}  {row['name']}")


@service_key.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its id (key_…), as list shows it.")],
    *,
    as_json: Json = False,
) -> None:
    """End a key at once, for good. It may be a customer's key, too."""
    number = decode_id("key", key)
    asyncio.run(_with_database(lambda db: _revoke(db, number)))
    if as_json:
        print_json({"id": key, "revoked": True})
    else:
        typer.echo(f"{key} is revoked.")


async def _create(settings: Settings, name: str) -> NewKey:
    gate = build_gate(settings)
    try:
        await check_database(gate.db)
        await gate.db.start()
        return await gate.db.write(
            lambda session: issue_key(
                session,
                gate.seal,
                KeyKind.SERVICE,
                name=name,
                scopes=frozenset(Scope),
            )
        )
    finally:
        await gate.db.close()
        await gate.rail.close()


async def _list(db: Database) -> list[ApiKey]:
    async with db.read() as session:
        return await list_service_keys(session)


async def _revoke(db: Database, number: int) -> None:
    await db.measure_clock()
    await db.write(lambda session: revoke_key(session, number, customer_id=None))


async def _with_database(work: Callable[[Database], Awaitable[R]]) -> R:
    async with open_books(read_settings().database_url) as db:
        return await work(db)


def _row(one: ApiKey) -> dict[str, Any]:
    return {
        "id": encode_id("key", one.id),
        "name": one.name,
        "created_at": to_the_second(one.created_at_ms),
        "expires_at": to_the_second(one.expires_at_ms),
        "revoked_at": to_the_second(one.revoked_at_ms),
    }
