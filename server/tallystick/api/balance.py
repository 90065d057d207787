"""A customer's credits: what there is, how it came and went."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.identify import GateDep, ReaderDep
from tallystick.api.paging import read_cursor
from tallystick.credits.grants import grants_of
from tallystick.credits.models import Grant
from tallystick.identity.keys import Scope
from tallystick.kernel.ids import decode_id, encode_id
from tallystick.kernel.money import MicroCredits, parse_credits, to_decimal
from tallystick.ledger.balances import Balance, customer_balance
from tallystick.ledger.statement import StatementLine, statement
from tallystick.payments.topups import (
    provisional_credits,
    public_facts,
    read_topup,
)
from tallystick.paywall.receipt import NO_STORE

router = APIRouter(prefix="/api/credits", tags=["credits"])
_NOTHING = Balance(MicroCredits(0), MicroCredits(0))


@router.get("")
async def read_credits(gate: GateDep, caller: ReaderDep) -> Response:
    """What the caller has, what is held, and where it came from.

    ``customer`` is null for a wallet that has never paid.
    """
    caller.require(Scope.READ)
    owner = caller.customer_id
    low = gate.catalog().credit.low_balance
    funds, grants, provisional = _NOTHING, list[Grant](), MicroCredits(0)
    if owner is not None:
        async with gate.db.read() as session:
            funds = await customer_balance(session, owner)
            grants = await grants_of(session, owner, limit=50)
            provisional = await provisional_credits(session, owner)
    document = {
        "customer": encode_id("cus", owner) if owner is not None else None,
        "credits": to_decimal(funds.posted),
        "held": to_decimal(funds.held),
        "available": to_decimal(funds.available),
        "provisional": to_decimal(provisional),
        "low_balance": funds.available < parse_credits(low),
        "grants": [
            {
                "id": encode_id("grt", one.id),
                "category": one.category,
                "credits": to_decimal(one.amount),
                "granted_at_ms": one.granted_at_ms,
            }
            for one in grants
        ],
    }
    return ExactJson(document, headers=NO_STORE)


@router.get("/topups/{topup_id}")
async def read_topup_state(gate: GateDep, topup_id: str) -> Response:
    """Where a top-up stands: public facts only, so nobody must sign in."""
    async with gate.db.read() as session:
        topup = await read_topup(session, decode_id("top", topup_id))
    return ExactJson(public_facts(topup), headers=NO_STORE)


@router.get("/transactions")
async def read_statement(
    gate: GateDep,
    caller: ReaderDep,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Response:
    """The statement, newest first; pass ``next_cursor`` on for older lines."""
    caller.require(Scope.READ)
    owner, before = caller.customer_id, read_cursor(cursor)
    lines: Sequence[StatementLine] = ()
    if owner is not None:
        async with gate.db.read() as session:
            lines = await statement(session, owner, before=before, limit=limit + 1)
    page, rest = lines[:limit], lines[limit:]
    following = str(page[-1].version) if rest else None
    document = {"transactions": [_line(one) for one in page], "next_cursor": following}
    return ExactJson(document, headers=NO_STORE)


def _line(one: StatementLine) -> dict[str, Any]:
    return {
        "id": encode_id("ltx", one.ledger_transaction_id),
        "type": one.kind,
        "description": one.memo,
        "credits": to_decimal(one.amount),
        "balance_after": to_decimal(one.balance_after),
        "posted_at_ms": one.posted_at_ms,
    }
