"""Which tables a statement reads from end to end, as the database itself plans it."""

import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from sqlalchemy import TextClause, bindparam, event, text

from tallystick.kernel.db import Database, ReadSession, query

Read = Callable[[ReadSession], Awaitable[object]]
_ROOTS = "SELECT rootpage, tbl_name FROM sqlite_master WHERE rootpage > 0"


async def read_as_a_whole(db: Database, read: Read) -> dict[str, set[str]]:
    """The tables for each statement that ``read`` asks; plans are made beside it."""
    found: dict[str, set[str]] = {}
    asked: list[tuple[str, dict[str, Any]]] = []

    def listen(_connection: Any, clause: Any, _many: Any, values: Any, _: Any) -> None:
        if isinstance(clause, TextClause) and not clause.text.startswith("SET"):
            asked.append((clause.text, dict(values)))

    engine = db.reader.sync_engine
    async with db.snapshot() as session:
        event.listen(engine, "before_execute", listen)
        try:
            await read(session)
        finally:
            event.remove(engine, "before_execute", listen)
        for sql, values in asked:
            scan = _on_sqlite if db.is_sqlite else _on_postgresql
            if tables := await scan(session, sql, values):
                found[sql] = tables
    assert asked, "nothing was asked"
    return found


async def _on_sqlite(
    session: ReadSession, sql: str, values: dict[str, Any]
) -> set[str]:
    """Its program rewinds a cursor on a table, instead of seeking in it."""
    roots = {row["rootpage"]: row["tbl_name"] for row in await query(session, _ROOTS)}
    cursors: dict[int, str] = {}
    scanned = set()
    for step in await _explained(session, f"EXPLAIN {sql}", values):
        if step["opcode"] == "OpenRead" and step["p3"] == 0:
            cursors[step["p1"]] = roots.get(step["p2"], "sqlite_master")
        elif step["opcode"].startswith("Open"):
            cursors.pop(step["p1"], None)
        elif step["opcode"] == "Rewind" and step["p1"] in cursors:
            scanned.add(cursors[step["p1"]])
    return scanned


async def _on_postgresql(
    session: ReadSession, sql: str, values: dict[str, Any]
) -> set[str]:
    (row,) = await _explained(session, f"EXPLAIN (FORMAT JSON) {sql}", values)
    told = row["QUERY PLAN"]
    (plan,) = json.loads(told) if isinstance(told, str) else told
    return {
        str(node.get("Relation Name") or node.get("Index Name"))
        for node in _nodes(plan["Plan"])
        if node["Node Type"] == "Seq Scan"
        or ("Index Name" in node and "Index Cond" not in node and not _is_open(node))
    }


def _is_open(node: dict[str, Any]) -> bool:
    """What is open is not much, however much is settled."""
    return str(node["Index Name"]).startswith("ix_hold_open")


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for one in plan.get("Plans", ()):
        # A limit takes the first entries of an index and no more.
        if plan["Node Type"] != "Limit" or one["Node Type"] != "Index Only Scan":
            yield from _nodes(one)


async def _explained(
    session: ReadSession, sql: str, values: dict[str, Any]
) -> list[Any]:
    statement = text(sql)
    if "keys" in values:
        statement = statement.bindparams(bindparam("keys", expanding=True))
    connection = await session.connection()
    return list((await connection.execute(statement, values)).mappings())
