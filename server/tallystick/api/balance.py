"""A customer's credits: what there is, and where a purchase stands."""

from datetime import datetime

from fastapi import APIRouter
from pydantic import AwareDatetime
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.errors import InvalidRequest
from tallystick.api.identify import NOBODY, GateDep, ReaderDep
from tallystick.credits.grants import grants_of
from tallystick.identity.keys import Scope
from tallystick.kernel.clock import ms_of
from tallystick.kernel.ids import decode_id, encode_id
from tallystick.kernel.money import parse_credits, to_decimal
from tallystick.ledger.balances import balance_at, customer_balance
from tallystick.payments.topups import (
    provisional_credits,
    public_facts,
    read_topup,
)
from tallystick.paywall.answer import NO_STORE
from tallystick.paywall.gate import Gate

router = APIRouter(prefix="/api/credits", tags=["credits"])


@router.get("")
async def read_credits(
    gate: GateDep, caller: ReaderDep, as_of: AwareDatetime | None = None
) -> Response:
    """What the caller has, what is held, and where it came from.

    ``customer`` is null for a wallet that has never paid. With ``as_of``, a time that
    has passed, only ``posted``: the balance of the statement's last line until then,
    with what was to count later and what had expired and was not booked yet.
    """
    caller.require(Scope.READ)
    owner = caller.owner
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
    return encode_id("cus", owner) if owner != NOBODY else None


async def _read_past(gate: Gate, customer_id: int, as_of: datetime) -> Response:
    at_ms = ms_of(as_of)
    if at_ms > gate.db.clock.now_ms():
        raise InvalidRequest("the time has not passed yet", field="as_of")
    async with gate.db.read() as session:
        posted = await balance_at(session, customer_id, at_ms)
    document = {
        "customer": _shown(customer_id),
        "as_of_ms": at_ms,
        "posted": to_decimal(posted),
    }
    return ExactJson(document, headers=NO_STORE)


@router.get("/topups/{topup_id}")
async def read_topup_state(gate: GateDep, topup_id: str) -> Response:
    """Where a top-up stands: public facts only, so nobody must sign in."""
    async with gate.db.read() as session:
        topup = await read_topup(session, decode_id("top", topup_id))
    return ExactJson(public_facts(topup), headers=NO_STORE)
