"""``tallystick merchant``: other sellers, who may have payments settled here."""

import asyncio
from typing import Annotated, Any

import typer

from tallystick.boot import check_database, open_books
from tallystick.command_output import print_json, to_the_second
from tallystick.config import Settings, read_settings
from tallystick.kernel.db import Database
from tallystick.kernel.ids import decode_id, encode_id
from tallystick.payments.merchants.registry import (
    NewMerchant,
    add_merchant,
    list_merchants,
    revoke_merchant,
)
from tallystick.payments.models.merchants import Merchant
from tallystick.safe_settings import is_address
from tallystick.wiring import build_gate
from tallystick.x402.keccak import checksum_address

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

merchant = typer.Typer(
    no_args_is_help=True,
    help="Add, list and revoke other sellers, for whom this server is the facilitator.",
)


@merchant.command()
def add(
    pay_to: Annotated[
        list[str], typer.Argument(help="The addresses that it is paid at.")
    ],
    *,
    name: Annotated[str, typer.Option(help="Who it is.")] = "merchant",
    as_json: Json = False,
) -> None:
    """Let another seller settle here; its key (mk_…) is shown once."""
    if not name.isprintable():
        raise typer.BadParameter("a name is one printable line.")
    payees = [_address(text) for text in pay_to]
    made = asyncio.run(_add(read_settings(), name, payees))
    shown = encode_id("mer", made.id)
    if as_json:
        print_json({"id": shown, "name": name, "secret": made.secret})
        return
    # The secret alone is on stdout, so that a script can keep it.
    typer.echo(f"{shown} is the id of this merchant, for list and revoke:", err=True)
    typer.echo(made.secret)


@merchant.command(name="list")
def list_(*, as_json: Json = False) -> None:
    """Show all merchants, newest first; never a key."""
    rows = [_row(*one) for one in asyncio.run(_list())]
    if as_json:
        print_json({"merchants": rows})
        return
    for row in rows:
        ended = f"revoked {row['revoked_at']}" if row["revoked_at"] else "active"
        typer.echo(f"{row['id']}  created {row['created_at']}  {ended}  {row['name']}")
        for address in row["pay_to"]:
            typer.echo(f"    {address}")


@merchant.command()
def revoke(
    which: Annotated[str, typer.Argument(help="Its id (mer_…), as list shows it.")],
    *,
    as_json: Json = False,
) -> None:
    """End a merchant's key at once, for good; what is under way is settled."""
    number = decode_id("mer", which)
    asyncio.run(_revoke(number))
    if as_json:
        print_json({"id": which, "revoked": True})
    else:
        typer.echo(f"{which} is revoked.")


def _address(text: str) -> bytes:
    if not is_address(text):
        raise typer.BadParameter(f"{text} is no address, or its checksum is wrong.")
    return bytes.fromhex(text.removeprefix("0x"))


async def _add(settings: Settings, name: str, payees: list[bytes]) -> NewMerchant:
    gate = build_gate(settings)
    if gate.rail.pay_to in payees:
        raise typer.BadParameter("PAY_TO is this server's own; a merchant has another.")
    try:
        await check_database(gate.db)
        await gate.db.start()
        return await gate.db.write(
            lambda session: add_merchant(session, gate.seal, name=name, payees=payees)
        )
    finally:
        await gate.db.close()
        await gate.rail.close()


async def _list() -> list[tuple[Merchant, list[bytes]]]:
    async with open_books(read_settings().database_url) as db, db.read() as session:
        return await list_merchants(session)


async def _revoke(number: int) -> None:
    async with open_books(read_settings().database_url) as db:
        await _end(db, number)


async def _end(db: Database, number: int) -> None:
    await db.measure_clock()
    await db.write(lambda session: revoke_merchant(session, number))


def _row(one: Merchant, payees: list[bytes]) -> dict[str, Any]:
    return {
        "id": encode_id("mer", one.id),
        "name": one.name,
        "pay_to": [checksum_address(pay_to) for pay_to in payees],
        "created_at": to_the_second(one.created_at_ms),
        "revoked_at": to_the_second(one.revoked_at_ms),
    }
