"""``tallystick reconcile``: the books of USDC against the chain."""

import asyncio
from typing import Annotated, Any

import typer

from tallystick.boot import check_database
from tallystick.command_output import print_json
from tallystick.config import read_settings
from tallystick.payments.observing.payees import know_payees
from tallystick.payments.reconciling.finalized import reconcile_finalized
from tallystick.payments.reconciling.reconcile import Reconciliation
from tallystick.payments.reconciling.reconcile import reconcile as reconcile_all
from tallystick.wiring import build_gate


def reconcile(
    *,
    full: Annotated[
        bool,
        typer.Option("--full", help="From the first block, not the last checkpoint."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare the books with the chain; exit 1 and name each difference there is."""
    document = asyncio.run(_reconcile(full=full)).document()
    if as_json:
        print_json(document)
    else:
        _print(document)
    raise typer.Exit(0 if document["ok"] else 1)


async def _reconcile(*, full: bool) -> Reconciliation:
    gate = build_gate(read_settings())
    try:
        await check_database(gate.db)
        await know_payees(gate.db, gate.rail)
        if full:
            return await reconcile_all(gate.db, gate.rail)
        return await reconcile_finalized(gate.db, gate.rail, seals=False)
    finally:
        await gate.db.close()
        await gate.rail.close()


def _print(document: dict[str, Any]) -> None:
    typer.echo(f"ledger  ${document['ledger_usdc']:f}")
    typer.echo(f"chain   ${document['chain_usdc']:f} at block {document['block']}")
    for one in document["payees"]:
        swept = f"${one['swept_usdc']:f} swept out"
        typer.echo(f"        {one['pay_to']}  ${one['chain_usdc']:f}, {swept}")
    for one in document["findings"]:
        typer.echo(f"BROKEN  {one['invariant']}: {one['detail']}")
        typer.echo(f"        {one['next_step']}")
    typer.echo("Everything adds up." if document["ok"] else "The books are not right.")
