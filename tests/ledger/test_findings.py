"""A check that cannot be made is a finding, in words that tell why."""

import pytest
from sqlalchemy.exc import DBAPIError

from tallystick.kernel.db import Database
from tallystick.ledger.findings import Finding, run_by_row, run_checks, unstopped

_BROKEN = {
    "sqlite": "SELECT json_extract('nonsense', '$') AS one",
    "postgresql": "SELECT CAST('nonsense' AS INTEGER) AS one",
}
_SOUND = "SELECT 1 AS one WHERE 1 = 0"
_FOUND = "SELECT 7 AS one UNION ALL SELECT 8 AS one"


async def test_a_check_that_fails_tells_the_databases_own_words_and_stops_no_other(
    db: Database,
) -> None:
    broken = _BROKEN[db.writer.dialect.name]
    async with db.read() as session:
        findings = await run_checks(
            session, {"first": broken, "sound": _SOUND, "last": _FOUND}
        )
    first, last = findings
    assert first.invariant == "first"
    assert first.detail.startswith("could not be checked: ")
    assert "DBAPIError" not in first.detail
    kind, _, told = first.detail.removeprefix("could not be checked: ").partition(": ")
    assert kind in {"OperationalError", "DataError", "Error"}
    assert "JSON" in told or "nonsense" in told
    assert not told.startswith("("), "the driver's words, not what wraps them"
    assert last == Finding("last", "first broken row: {'one': 7}")


async def test_of_any_number_of_rows_the_first_that_is_broken_is_named(
    db: Database,
) -> None:
    rows = (
        "WITH RECURSIVE many(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many"
        " WHERE n < 5000) SELECT n FROM many ORDER BY n"
    )
    async with db.read() as session:
        found = await run_by_row(session, "some", rows, lambda row: row["n"] > 2500)
        assert found == [Finding("some", "first broken row: {'n': 2501}")]
        assert not await run_by_row(session, "some", rows, lambda row: row["n"] > 5000)


async def test_a_row_that_cannot_be_judged_is_a_finding(db: Database) -> None:
    async with db.read() as session:
        found = await run_by_row(session, "some", _FOUND, lambda row: row["two"] == 2)
        (finding,) = found
        assert finding.invariant == "some"
        assert finding.detail.startswith("could not be checked: ")
        assert len(await run_checks(session, {"next": _FOUND})) == 1


async def test_what_fails_beside_the_database_is_named_by_its_first_line(
    db: Database,
) -> None:
    async def check() -> list[Finding]:
        raise ValueError("no number\nand a page of details")

    async with db.read() as session:
        (finding,) = await unstopped(session, "some", check)
    assert finding == Finding("some", "could not be checked: ValueError: no number")


async def test_books_that_cannot_be_asked_are_not_called_broken(db: Database) -> None:
    gone = DBAPIError("SELECT 1", None, OSError("gone"), connection_invalidated=True)

    async def check() -> list[Finding]:
        raise gone

    async with db.read() as session:
        with pytest.raises(DBAPIError):
            await unstopped(session, "some", check)
