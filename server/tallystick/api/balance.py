"""A customer's credits: what there is, how it came and went."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.errors import InvalidRequest
from tallystick.api.identify import GateDep, ReaderDep
from tallystick.api.paging import read_cursor
from tallystick.credits.grants import grants_of
from tallystick.identity.keys import Scope
from tallystick.kernel.ids import decode_id, encode_id
from tallystick.kernel.money import parse_credits, to_decimal
from tallystick.ledger.balances import balance_at, customer_balance
from tallystick.ledger.statement import StatementLine, statement
from tallystick.payments.topups import (
    provisional_credits,
    public_facts,
    read_topup,
)
from tallystick.paywall.gate import Gate
from tallystick.paywall.receipt import NO_STORE

router = APIRouter(prefix="/api/credits", tags=["credits"])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOBODY = 0
"""No customer's number: a wallet that has never paid has nothing, as this one has."""


@router.get("")
async def read_credits(
    gate: GateDep, caller: ReaderDep, as_of: AwareDatetime | None = None
) -> Response:
    """What the caller has, what is held, and where it came from.

    ``customer`` is null for a wallet that has never paid. With ``as_of``, a time that
    has passed, only what the statement said then.
    """
    caller.require(Scope.READ)
    owner = caller.customer_id or _NOBODY
    if as_of is not None:
        return await _read_past(gate, owner, as_of)
    low = gate.catalog().credit.low_balance
    async with gate.db.read() as session:
        funds = await customer_balance(session, owner)
        grants = await grants_of(session, owner, limit=50)
        provisional = await provisional_credits(session, owner)
    document = {
        "customer": _shown(owner),
        "credits": to_decimal(funds.available + funds.held),
        "held": to_decimal(funds.held),
        "deferred": to_decimal(funds.deferred),
        "available": to_decimal(funds.available),
        "provisional": to_decimal(provisional),
        "low_balance": funds.available < parse_credits(low),
        "grants": [
            {
                "id": encode_id("grt", one.id),
                "category": one.category,
                "amount": to_decimal(one.amount),
                "remaining": to_decimal(one.remaining),
                "granted_at_ms": one.granted_at_ms,
                "effective_at_ms": one.effective_at_ms,
                "expires_at_ms": one.expires_at_ms,
            }
            for one in grants
        ],
    }
    return ExactJson(document, headers=NO_STORE)


def _shown(owner: int) -> str | None:
    return encode_id("cus", owner) if owner != _NOBODY else None


async def _read_past(gate: Gate, customer_id: int, as_of: datetime) -> Response:
    at_ms = (as_of - _EPOCH) // timedelta(milliseconds=1)
    if at_ms > gate.db.clock.now_ms():
        raise InvalidRequest("the time has not passed yet", field="as_of")
    async with gate.db.read() as session:
        credits_then = await balance_at(session, customer_id, at_ms)
    document = {
        "customer": _shown(customer_id),
        "as_of_ms": at_ms,
        "credits": to_decimal(credits_then),
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
    owner, before = caller.customer_id or _NOBODY, read_cursor(cursor)
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
