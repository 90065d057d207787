"""Whether an index answers: the database is asked how it reads what was read."""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from sqlalchemy import TextClause, event

from tallystick.kernel.db import Database, ReadSession, query

Read = Callable[[ReadSession], Awaitable[object]]

_LARGE = ("transfer", "ledger_transaction", "ledger_account", "account_balance")
_SCAN = re.compile(rf"SCAN ({'|'.join(_LARGE)})\b")
# PostgreSQL reads a table of some pages as a whole, and is right to.
FEW_PAGES = 1_000
_PAGES = "SELECT relpages FROM pg_class WHERE oid = to_regclass(:name)"


class ReadWithoutIndex(Exception):
    """A table that grows with every customer or charge was read as a whole."""


async def require_index(
    db: Database, read: Read, *, few_pages: int = FEW_PAGES
) -> None:
    """Raises ``ReadWithoutIndex`` unless indexes answer all that ``read`` asks.

    On PostgreSQL, tables of at most ``few_pages`` may be read as a whole.
    """
    asked = await _asked_by(db, read)
    if not asked:
        raise AssertionError("nothing was asked")
    async with db.read() as session:
        for sql, values in asked:
            tables = (
                await _scanned_on_sqlite(session, sql, values)
                if db.is_sqlite
                else await _scanned_on_postgresql(session, sql, values, few_pages)
            )
            if tables:
                raise ReadWithoutIndex(f"{', '.join(sorted(tables))}: {sql}")


async def _asked_by(db: Database, read: Read) -> list[tuple[str, dict[str, Any]]]:
    asked: list[tuple[str, dict[str, Any]]] = []

    def listen(_connection: Any, clause: Any, _many: Any, values: Any, _: Any) -> None:
        if isinstance(clause, TextClause):
            asked.append((clause.text, dict(values)))

    event.listen(db.reader.sync_engine, "before_execute", listen)
    try:
        async with db.read() as session:
            await read(session)
    finally:
        event.remove(db.reader.sync_engine, "before_execute", listen)
    return asked


async def _scanned_on_sqlite(
    session: ReadSession, sql: str, values: dict[str, Any]
) -> set[str]:
    steps = await query(session, f"EXPLAIN QUERY PLAN {sql}", **values)
    return {name for step in steps for name in _SCAN.findall(step["detail"])}


async def _scanned_on_postgresql(
    session: ReadSession, sql: str, values: dict[str, Any], few_pages: int
) -> set[str]:
    (row,) = await query(session, f"EXPLAIN (FORMAT JSON) {sql}", **values)
    told = row["QUERY PLAN"]
    (plan,) = json.loads(told) if isinstance(told, str) else told
    scanned = {
        node["Relation Name"]
        for node in _nodes(plan["Plan"])
        if node["Node Type"] == "Seq Scan"
    }
    return {name for name in scanned if await _pages(session, name) > few_pages}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for one in plan.get("Plans", ()):
        yield from _nodes(one)


async def _pages(session: ReadSession, table: str) -> int:
    (row,) = await query(session, _PAGES, name=table)
    return int(row["relpages"])
