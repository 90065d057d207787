"""What an audit finds: the first row that breaks an invariant.

Whoever can write the database must not be able to stop its audit: a check that fails on
what it reads is a finding like any other, and the next check is made all the same.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import DBAPIError

from tallystick.kernel.db import ReadSession, WriteSession, query
from tallystick.kernel.log import get_logger
from tallystick.ledger.views import on_tables

# PostgreSQL would look for the one row that is wanted in the order in which it comes by
# soonest, and in sound books there is none: minutes instead of a second.
_FIRST = {
    "sqlite": "{} LIMIT 1",
    "postgresql": "WITH broken AS MATERIALIZED ({}) SELECT * FROM broken LIMIT 1",
}
_AT_ONCE = 1_000

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken invariant and the first row that shows it."""

    invariant: str
    detail: str


@dataclass(frozen=True, slots=True)
class Checks:
    """A query for each invariant, which must return nothing, and their values."""

    queries: Mapping[str, str]
    values: Mapping[str, object] = field(default_factory=dict)


async def run_checks(
    session: ReadSession | WriteSession, checks: Mapping[str, str] | Checks
) -> list[Finding]:
    """A finding for each query that returns a row, naming the first one.

    And for each that cannot be answered, saying why.
    """
    if not isinstance(checks, Checks):
        checks = Checks(checks)
    if not checks.queries:
        return []
    queries, values = checks.queries, checks.values
    dialect = session.get_bind().dialect.name
    first = _FIRST[dialect]
    findings: list[Finding] = []
    for invariant in await _suspects(session, checks):

        async def check(invariant: str = invariant) -> list[Finding]:
            asked = on_tables(dialect, first.format(queries[invariant]))
            rows = await query(session, asked, **values)
            return [_of_row(invariant, row) for row in rows]

        findings += await unstopped(session, invariant, check)
    return findings


async def _suspects(session: ReadSession | WriteSession, checks: Checks) -> list[str]:
    """The checks that return a row, asked at once; all, if one of them fails."""
    dialect = session.get_bind().dialect.name
    first, names = _FIRST[dialect], list(checks.queries)
    at_once = " UNION ALL ".join(
        f"SELECT {place} AS place WHERE EXISTS ({first.format(checks.queries[name])})"
        for place, name in enumerate(names)
    )
    try:
        async with _undisturbed(session):
            asked = on_tables(dialect, at_once)
            rows = await query(session, asked, **checks.values)
            return [names[row["place"]] for row in rows]
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return names


async def run_by_row(
    session: ReadSession | WriteSession,
    invariant: str,
    sql: str,
    is_broken: Callable[[RowMapping], bool],
    values: Mapping[str, object] | None = None,
) -> list[Finding]:
    """A finding for the first of the query's rows that is broken, however many it has.

    For what SQL alone cannot judge; else as ``run_checks``.
    """

    async def check() -> list[Finding]:
        connection = await session.connection()
        asked = on_tables(session.get_bind().dialect.name, sql)
        query_ = text(asked).execution_options(yield_per=_AT_ONCE)
        rows = await connection.stream(query_, values or {})
        try:
            async for row in rows.mappings():
                if is_broken(row):
                    return [_of_row(invariant, row)]
        finally:
            await rows.close()
        return []

    return await unstopped(session, invariant, check)


def _of_row(invariant: str, row: RowMapping) -> Finding:
    return Finding(invariant, f"first broken row: {dict(row)}")


@asynccontextmanager
async def _undisturbed(session: ReadSession | WriteSession) -> AsyncIterator[None]:
    """After a statement that failed, PostgreSQL takes no other but a rollback."""
    if session.get_bind().dialect.name == "sqlite":
        yield
        return
    async with session.begin_nested():
        yield


async def unstopped(
    session: ReadSession | WriteSession,
    invariant: str,
    check: Callable[[], Awaitable[list[Finding]]],
) -> list[Finding]:
    """What the check finds; or, as a finding, that it could not be made.

    Raises ``DBAPIError`` when the database itself is gone.
    """
    try:
        async with _undisturbed(session):
            return await check()
    except Exception as error:  # rows of any nonsense fail in any way
        # Books that cannot be asked at all are not broken.
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            raise
        _log.warning("check_failed", invariant=invariant, error=_words(error))
        return [Finding(invariant, f"could not be checked: {_words(error)}")]


def _words(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    told = str(cause).partition("\n")[0]
    return f"{type(cause).__name__}: {told}"
