"""A customer's statement, and what stands behind each of its lines."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime
from starlette.responses import Response, StreamingResponse

from tallystick.api.answers import ExactJson
from tallystick.api.explained import behind, explained
from tallystick.api.identify import GateDep, ReaderDep
from tallystick.api.paging import read_cursor
from tallystick.exports.files import Format, period, written_as
from tallystick.exports.statement import export_statement
from tallystick.identity.keys import Scope
from tallystick.kernel.ids import UnknownId, decode_id, encode_id
from tallystick.ledger.errors import UnknownTransaction
from tallystick.ledger.statement import line_document, statement
from tallystick.paywall.answer import NO_STORE

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


# An enum would be a schema of its own, in the OpenAPI document of a seller's app.
_FORMATS = Literal["csv", "jsonl"]
_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The lines, oldest first, as a file",
        "content": {
            one.media_type.partition(";")[0]: {"schema": {"type": "string"}}
            for one in Format
        },
    }
}


# Before the next route, of which it would otherwise be an id.
@router.get("/export", response_class=StreamingResponse, responses=_FILES)
async def export_lines(
    gate: GateDep,
    caller: ReaderDep,
    wanted: Annotated[_FORMATS, Query(alias="format")] = "csv",
    begin: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    end: Annotated[AwareDatetime | None, Query(alias="to")] = None,
) -> StreamingResponse:
    """The whole statement as a file, oldest line first, as it is now.

    With `from` only what was booked then or later, with `to` only what was booked
    before. An answer that breaks off is not whole: ask again.
    """
    caller.require(Scope.READ)
    file_format = Format(wanted)
    export = await export_statement(gate.db, caller.owner, period(begin, end))
    name = "statement"
    if caller.customer_id is not None:
        name += "-" + encode_id("cus", caller.customer_id)
    disposition = f'attachment; filename="{name}.{file_format}"'
    return StreamingResponse(
        (part.text async for part in written_as(file_format, export)),
        media_type=file_format.media_type,
        headers={
            **NO_STORE,
            "Content-Disposition": disposition,
            "X-Content-Type-Options": "nosniff",
        },
    )


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
