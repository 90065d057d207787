"""A packed column has the form in which it is written, or its row is named."""

import pytest

from tallystick.kernel.db import Database, query
from tallystick.ledger.shapes import (
    A_CHANGE,
    A_COUNT,
    AN_AMOUNT,
    AN_ID,
    Member,
    Truth,
    is_malformed,
)

_HIGHEST = (1 << 63) - 1
_MOST = (1 << 62) - 1
_SHAPES: dict[str, list[Member]] = {
    "lots": [AN_ID, A_CHANGE],
    "limits": [AN_ID, AN_AMOUNT, A_COUNT, Truth()],
    "one": [AN_ID],
}
_WELL = {
    "lots": ["[[1,1]]", f"[[{_HIGHEST},{_MOST}],[2,-{_MOST}],[3,0]]"],
    "limits": ["[[1,1,0,true]]", f"[[2,{_MOST},{_HIGHEST},false],[1,1,1,true]]"],
    "one": ["[[1]]", "[[1],[2]]"],
}
_WRONG = {
    "lots": [
        "",
        "[]",
        "[[]]",
        "[1,2]",
        "{}",
        "null",
        "[[1,1]",
        "[[1]]",
        "[[1,1,1]]",
        "[[0,1]]",
        "[[-1,1]]",
        f"[[{_HIGHEST + 1},1]]",
        f"[[1,{_MOST + 1}]]",
        f"[[1,-{_MOST + 1}]]",
        "[[1,1.5]]",
        '[["1",1]]',
        "[[1,true]]",
        "[[true,1]]",
        "[[1,null]]",
        "[[1,1],[0,1]]",
        "[[1,1],7]",
        "[[1,1]] [[1,1]]",
    ],
    "limits": [
        "[[1,0,0,true]]",
        "[[1,-1,0,true]]",
        f"[[1,{_MOST + 1},0,true]]",
        "[[1,1,-1,true]]",
        f"[[1,1,{_HIGHEST + 1},true]]",
        "[[1,1,0,1]]",
        '[[1,1,0,"true"]]',
        "[[1,1,0,null]]",
        "[[1,1,true,true]]",
        "[[1,1,0]]",
        "[[1,1,0,true,true]]",
    ],
    "one": ["[[1,1]]", "[1]", "[[0]]"],
}


async def _is_malformed(db: Database, shape: str, text: str | None) -> bool:
    dialect = db.writer.dialect.name
    condition = is_malformed(dialect, "packed", _SHAPES[shape])
    row = "(SELECT CAST(:packed AS TEXT) AS packed) AS rows"
    sql = f"SELECT {condition} AS told FROM {row}"  # our own words
    async with db.read() as session:
        (found,) = await query(session, sql, packed=text)
    return bool(found["told"])


@pytest.mark.parametrize("shape", _SHAPES)
async def test_what_is_written_is_well_formed(db: Database, shape: str) -> None:
    assert not await _is_malformed(db, shape, None)
    for text in _WELL[shape]:
        assert not await _is_malformed(db, shape, text), text


@pytest.mark.parametrize("shape", _SHAPES)
async def test_whatever_else_is_there_is_malformed(db: Database, shape: str) -> None:
    for text in _WRONG[shape]:
        assert await _is_malformed(db, shape, text), text
