"""A customer's statement, and what stands behind each of its lines."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.explained import behind, explained
from tallystick.api.identify import GateDep, ReaderDep
from tallystick.api.paging import read_cursor
from tallystick.identity.keys import Scope
from tallystick.kernel.ids import UnknownId, decode_id
from tallystick.ledger.errors import UnknownTransaction
from tallystick.ledger.statement import line_document, statement
from tallystick.paywall.receipt import NO_STORE

router = APIRouter(prefix="/api/credits/transactions", tags=["credits"])


@router.get("")
async def read_statement(
    gate: GateDep,
    caller: ReaderDep,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: str | None = None,
) -> Response:
    """The statement, newest first; pass ``next_cursor`` on for older lines."""
    caller.require(Scope.READ)
    before = read_cursor(cursor)
    async with gate.db.read() as session:
        lines = await statement(session, caller.owner, before=before, limit=limit + 1)
    page, rest = lines[:limit], lines[limit:]
    document = {
        "transactions": [line_document(one) for one in page],
        "next_cursor": str(page[-1].version) if rest else None,
    }
    return ExactJson(document, headers=NO_STORE)


@router.get("/{transaction_id}")
async def explain_transaction(
    gate: GateDep, caller: ReaderDep, transaction_id: str
) -> Response:
    """One line of the statement with all that stands behind it.

    That is both sides of each entry, the lots that it drew from or gave to with what
    those credits had cost, the call that was charged, the payment that was credited,
    and what took it back. Another customer's side of a transaction is left out.
    """
    caller.require(Scope.READ)
    number = _number(transaction_id)
    async with gate.db.read() as session:
        found = await behind(session, caller.owner, number)
    return ExactJson(explained(found), headers=NO_STORE)


def _number(transaction_id: str) -> int:
    try:
        return decode_id("ltx", transaction_id)
    except UnknownId as error:
        raise UnknownTransaction from error
