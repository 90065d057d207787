"""``tallystick payback``: unused credits back in USDC, by operators with a reason."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tallystick.boot import check_database
from tallystick.command_output import print_json
from tallystick.config import read_settings
from tallystick.kernel import json
from tallystick.kernel.ids import decode_id
from tallystick.kernel.log import configure_logging
from tallystick.kernel.money import parse_credits
from tallystick.kernel.new_file import NewFile
from tallystick.payments.models.paybacks import Payback, PaybackState
from tallystick.payments.observing.same_chain import check_chain
from tallystick.payments.paybacks.cancelling import Cancelling
from tallystick.payments.paybacks.cancelling import cancel as cancel_payback
from tallystick.payments.paybacks.issuing import (
    hand_out,
    pay_from_float_key,
    put_in_batch,
    take_signature,
)
from tallystick.payments.paybacks.naming import name_transaction
from tallystick.payments.paybacks.origins import PlainTransfer
from tallystick.payments.paybacks.page import signing_page
from tallystick.payments.paybacks.proposing import Proposal
from tallystick.payments.paybacks.proposing import approve as approve_payback
from tallystick.payments.paybacks.proposing import propose as propose_payback
from tallystick.payments.paybacks.reading import (
    facts_of,
    list_paybacks,
    read_payback,
)
from tallystick.payments.paybacks.terms import safe_batch
from tallystick.paywall.gate import Gate
from tallystick.wiring import build_gate

R = TypeVar("R")
_MOST_SHOWN = 1_000


def _hex(text: str) -> bytes:
    if not re.fullmatch(r"0x([0-9a-fA-F]{2})*", text):
        raise typer.BadParameter("write 0x and hexadecimal digits")
    return bytes.fromhex(text[2:])


def _hash(text: str) -> bytes:
    found = _hex(text)
    if len(found) != 32:
        raise typer.BadParameter("a transaction's hash is 0x and 64 hex digits")
    return found


Id = Annotated[str, typer.Argument(metavar="PAYBACK", help="Its id (pbk_…).")]
Operator = Annotated[str, typer.Option(help="Who you are; it is kept.")]
Reason = Annotated[str, typer.Option(help="Why, in one line; it is kept.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NewPath = Annotated[Path, typer.Option(dir_okay=False, help="A new file.")]

payback = typer.Typer(
    no_args_is_help=True,
    help="Give unused credits back in USDC, to the wallet that paid for them.",
)


@payback.command()
def propose(
    paid: Annotated[
        str,
        typer.Argument(
            metavar="PAYMENT",
            help="The purchase (top_…), or the transaction of a transfer (0x…).",
        ),
    ],
    *,
    operator: Operator,
    reason: Reason,
    amount: Annotated[
        str | None,
        typer.Option("--credits", help="So many; all that is unused unless told."),
    ] = None,
    log: Annotated[
        int | None,
        typer.Option(min=0, help="Which log, if a transaction made several transfers."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Take the unused credits of a payment out of use, for the way back."""
    some = None if amount is None else parse_credits(amount)
    if paid.startswith("0x"):
        of = PlainTransfer(_hash(paid), log)
        wanted = Proposal(None, operator, reason, some, of)
    else:
        wanted = Proposal(decode_id("top", paid), operator, reason, some)
    made = _run(lambda gate: propose_payback(gate.db, gate.rail, wanted), starts=True)
    _tell(made, as_json=as_json)


@payback.command()
def approve(name: Id, *, operator: Operator, as_json: Json = False) -> None:
    """Let a large payback go on, as a second operator."""
    number = decode_id("pbk", name)
    done = _run(
        lambda gate: approve_payback(gate.db, number, operator), asks_chain=False
    )
    _tell(done, as_json=as_json)


@payback.command(name="list")
def list_(
    *,
    state: Annotated[
        PaybackState | None, typer.Option(help="Only those of this state.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show paybacks, newest first."""

    async def read(gate: Gate) -> list[Payback]:
        async with gate.db.read() as session:
            return await list_paybacks(session, state=state, limit=_MOST_SHOWN)

    rows = [facts_of(one) for one in _run(read, asks_chain=False)]
    if as_json:
        print_json({"paybacks": rows})
        return
    for row in rows:
        told = f"${row['usdc']:f}  to {row['to']}  by {row['proposed_by']}"
        typer.echo(f"{row['id']}  {row['state']:9}  {told}: {row['reason']}")


@payback.command()
def show(name: Id, *, as_json: Json = False) -> None:
    """Show one payback, and what comes next."""
    number = decode_id("pbk", name)

    async def read(gate: Gate) -> Payback:
        async with gate.db.read() as session:
            return await read_payback(session, number)

    _tell(_run(read, asks_chain=False), as_json=as_json)


@payback.command()
def pay(name: Id, *, operator: Operator, as_json: Json = False) -> None:
    """Let the worker pay it from the float (PAYBACK_KEY)."""
    number = decode_id("pbk", name)
    done = _run(lambda gate: pay_from_float_key(gate.db, gate.rail, number, operator))
    _tell(done, as_json=as_json)


@payback.command()
def page(name: Id, *, operator: Operator, out: NewPath) -> None:
    """Write a page on which PAY_TO's wallet signs for it in a browser."""
    number = decode_id("pbk", name)

    async def write(gate: Gate) -> None:
        with NewFile(out) as file:
            handed = await hand_out(gate.db, gate.rail, number, operator)
            file.raw.write(signing_page(gate.rail.domain, handed).encode())

    _run(write)
    typer.echo(f"Open {out} in the browser that has the wallet.")


@payback.command()
def sign(
    name: Id,
    signature: Annotated[str, typer.Argument(help="As the page shows it (0x…).")],
    *,
    as_json: Json = False,
) -> None:
    """Hand in what PAY_TO's wallet has signed; a worker sends it."""
    number, signed = decode_id("pbk", name), _hex(signature)
    done = _run(lambda gate: take_signature(gate.db, gate.rail, number, signed))
    _tell(done, as_json=as_json)


@payback.command()
def batch(
    names: Annotated[list[str], typer.Argument(metavar="PAYBACK…")],
    *,
    operator: Operator,
    out: NewPath,
    again: Annotated[
        bool, typer.Option("--again", help="The file before is lost or thrown away.")
    ] = False,
) -> None:
    """Write a batch for Safe's Transaction Builder, if PAY_TO is a Safe.

    Execute it once: a batch is made of plain transfers, which nothing keeps from being
    executed twice.
    """
    numbers = [decode_id("pbk", one) for one in names]

    async def write(gate: Gate) -> int:
        rail = gate.rail
        with NewFile(out) as file:
            done = await put_in_batch(gate.db, rail, numbers, operator, again=again)
            now = gate.db.clock.now_ms()
            made = safe_batch(rail.domain, rail.pay_to, done, now_ms=now)
            file.raw.write(json.dumps(made) + b"\n")
        return len(done)

    typer.echo(f"{_run(write)} transfers are in {out}.")


@payback.command()
def executed(
    name: Id,
    transaction: Annotated[str, typer.Argument(help="Its hash (0x…).")],
    *,
    as_json: Json = False,
) -> None:
    """Say in which transaction the Safe has paid it, should several be alike."""
    number, tx_hash = decode_id("pbk", name), _hash(transaction)
    done = _run(
        lambda gate: name_transaction(gate.db, number, tx_hash), asks_chain=False
    )
    _tell(done, as_json=as_json)


@payback.command()
def cancel(
    name: Id,
    *,
    operator: Operator,
    reason: Reason,
    batch_is_void: Annotated[
        bool,
        typer.Option("--batch-is-void", help="Its batch was rejected in the Safe."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Give the credits back to be spent, once nothing can move the money."""
    wanted = Cancelling(
        decode_id("pbk", name), operator, reason, batch_is_void=batch_is_void
    )
    done = _run(lambda gate: cancel_payback(gate.db, gate.rail, wanted), starts=True)
    _tell(done, as_json=as_json)


def _run(
    work: Callable[[Gate], Awaitable[R]],
    *,
    starts: bool = False,
    asks_chain: bool = True,
) -> R:
    """Work on the books; ``starts`` takes an id slot, for what makes ids."""
    settings = read_settings()
    # What is done is answered, and stands in the row with who did it.
    configure_logging("WARNING", as_json=settings.log_json)

    async def run() -> R:
        gate = build_gate(settings)
        try:
            await check_database(gate.db)
            if asks_chain:
                await check_chain(gate.db, gate.rail)
            await (gate.db.start() if starts else gate.db.measure_clock())
            return await work(gate)
        finally:
            await gate.db.close()
            await gate.rail.close()

    return asyncio.run(run())


_NEXT = {
    PaybackState.PROPOSED: "A second operator must approve it.",
    PaybackState.APPROVED: "Next: `pay` from the float, `page` to sign, or `batch`.",
    PaybackState.ISSUED: "It is closed once a final block shows its transfer.",
}


def _tell(one: Payback, *, as_json: bool) -> None:
    facts = facts_of(one)
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        if value is not None:
            typer.echo(f"{key:13} {value}")
    if (following := _NEXT.get(PaybackState(one.state))) is not None:
        typer.echo(following)
