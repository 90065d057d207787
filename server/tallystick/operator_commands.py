"""What a person has to judge by hand, and the record of who did so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer

from tallystick.boot import open_books
from tallystick.command_output import print_json
from tallystick.config import read_settings
from tallystick.credits.forgiving import Forgiven, debts, forgive
from tallystick.kernel.clock import rfc3339
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.ids import decode_id, encode_id
from tallystick.kernel.money import (
    USDC_SCALE,
    parse_credits,
    to_decimal,
)
from tallystick.kernel.seal import digest16
from tallystick.operators.acts import Signed, acts_on, note_act, reason_told
from tallystick.payments.review import UnderReview, close, look_again, under_review
from tallystick.x402.keccak import checksum_address

R = TypeVar("R")
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Operator = Annotated[str, typer.Option("--operator", help="Who you are.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept for good.")]
TopUpId = Annotated[str, typer.Argument(help="Its id (top_…), as list shows it.")]
CustomerId = Annotated[str, typer.Argument(help="His id (cus_…), as list shows it.")]

review = typer.Typer(
    no_args_is_help=True, help="Payments whose evidence contradicts itself."
)
debt = typer.Typer(
    no_args_is_help=True, help="What customers owe for payments that vanished."
)


@review.command(name="list")
def list_reviews(*, as_json: Json = False) -> None:
    """Show every payment in quarantine, and what to do about it."""
    rows = asyncio.run(_with_books(_reviews))
    if as_json:
        print_json({"topups": rows})
        return
    if not rows:
        typer.echo("Nothing is in quarantine.")
    for row in rows:
        typer.echo(f"{row['id']}  ${row['usdc']:f} of {row['payer']}  {row['reason']}")
        for one in row["arrived"]:
            typer.echo(f"    ${one['usdc']:f} arrived in {one['transaction']}")
        typer.echo(f"    {row['next_step']}")


@review.command()
def release(
    topup: TopUpId, *, operator: Operator, reason: Reason, as_json: Json = False
) -> None:
    """Have a payment looked at again; the chain decides what becomes of it."""
    number, signed = decode_id("top", topup), Signed(operator, reason)

    async def work(session: WriteSession) -> None:
        await look_again(session, number)
        await note_act(session, signed, "release_topup", topup)

    asyncio.run(_with_books(lambda db: _written(db, work)))
    if as_json:
        print_json({"id": topup, "released": True})
    else:
        typer.echo(f"{topup} is looked at again, within a second of a running server.")


@review.command(name="close")
def close_topup(
    topup: TopUpId, *, operator: Operator, reason: Reason, as_json: Json = False
) -> None:
    """End a payment that brings nothing; nobody is credited, nothing is booked."""
    number, signed = decode_id("top", topup), Signed(operator, reason)

    async def work(session: WriteSession) -> None:
        await close(session, number)
        await note_act(session, signed, "close_topup", topup)

    asyncio.run(_with_books(lambda db: _written(db, work)))
    if as_json:
        print_json({"id": topup, "closed": True})
    else:
        typer.echo(f"{topup} is closed. What arrives for it is its payer's to redeem.")


@debt.command(name="list")
def list_debts(*, as_json: Json = False) -> None:
    """Show who owes credits, the largest debt first."""
    rows = asyncio.run(_with_books(_debts))
    if as_json:
        print_json({"debts": rows})
        return
    if not rows:
        typer.echo("Nobody owes anything.")
    for row in rows:
        typer.echo(f"{row['customer']}  owes {row['credits']:f} credits")


@debt.command(name="forgive")
def forgive_debt(
    customer: CustomerId,
    *,
    operator: Operator,
    reason: Reason,
    part: Annotated[
        str | None, typer.Option("--credits", help="Only so much of it.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", help="The same key writes off once, however often."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write off what a customer owes; what he buys then is his."""
    number, signed = decode_id("cus", customer), Signed(operator, reason)
    memo = reason_told(reason)
    amount = None if part is None else parse_credits(part)

    once = None if key is None else digest16(b"written off by key", key.encode())

    async def work(session: WriteSession) -> Forgiven:
        done = await forgive(session, number, amount, memo=memo, idempotency_key=once)
        if not done.replayed:
            await note_act(session, signed, "forgive_debt", customer)
        return done

    done = asyncio.run(_with_books(lambda db: _written(db, work)))
    forgiven = to_decimal(done.amount)
    if as_json:
        told = {"customer": customer, "forgiven": forgiven, "replayed": done.replayed}
        print_json(told)
    else:
        before = "; an earlier try had done it" if done.replayed else ""
        typer.echo(f"{customer} owes {forgiven:f} credits less{before}.")


def acts(
    subject: Annotated[
        str | None, typer.Argument(help="Only what was done to it (top_…, cus_…).")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Show what operators did by hand, oldest first."""
    rows = asyncio.run(_with_books(lambda db: _acts(db, subject)))
    if as_json:
        print_json({"acts": rows})
        return
    for row in rows:
        told = f"{row['at']}  {row['operator']}  {row['act']}  {row['subject']}"
        typer.echo(f"{told}  {row['reason'] or ''}".rstrip())


async def _with_books(work: Callable[[Database], Awaitable[R]]) -> R:
    async with open_books(read_settings().database_url) as db:
        return await work(db)


async def _written(db: Database, work: Callable[[WriteSession], Awaitable[R]]) -> R:
    await db.start()
    return await db.write(work)


async def _reviews(db: Database) -> list[dict[str, Any]]:
    async with db.read() as session:
        return [_review(one) for one in await under_review(session)]


def _review(one: UnderReview) -> dict[str, Any]:
    return {
        "id": encode_id("top", one.topup.id),
        "usdc": to_decimal(one.topup.value, USDC_SCALE),
        "payer": checksum_address(one.topup.payer),
        "reason": one.topup.reason,
        "arrived": [
            {
                "usdc": to_decimal(transfer.value, USDC_SCALE),
                "transaction": f"0x{transfer.tx_hash.hex()}",
                "block": transfer.block_number,
            }
            for transfer in one.arrived
        ],
        "next_step": one.remedy,
    }


async def _debts(db: Database) -> list[dict[str, Any]]:
    async with db.read() as session:
        found = await debts(session)
    return [
        {"customer": encode_id("cus", one.customer_id), "credits": to_decimal(one.owed)}
        for one in found
    ]


async def _acts(db: Database, subject: str | None) -> list[dict[str, Any]]:
    async with db.read() as session:
        found = await acts_on(session, subject)
    return [
        {
            "at": rfc3339(one.at_ms),
            "operator": one.operator,
            "act": one.act,
            "subject": one.subject,
            "reason": one.reason,
        }
        for one in found
    ]
