"""An export is of one moment, however long it takes, and holds no more than a page."""

import asyncio
from typing import Any

import pytest

from tallystick.exports import journal, statement
from tallystick.exports.files import Export, Format, Page, Period, written_as
from tallystick.exports.journal import export_journal
from tallystick.exports.statement import export_statement
from tallystick.kernel.db import Database
from tests.ledger.bookings import ALICE, balance, book, buy, charge, give

ALWAYS = Period()


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statement, "AT_ONCE", 4)
    monkeypatch.setattr(journal, "AT_ONCE", 4)


@pytest.fixture
async def books(db: Database) -> Database:
    """Ten lines of Alice's in eleven transfers."""
    await buy(db, 5_000_000, 50_000_000)
    await give(db, 1_000_000)
    for n in range(8):
        await book(db, charge(1 + n, f"charge {n}"))
    return db


async def _with_bookings(db: Database, export: Export) -> list[Page]:
    """All its pages, with something booked after each of them."""
    pages = []
    async for page in export.pages:
        pages.append(page)
        await book(db, charge(100_000, f"late {len(pages)}"))
        await give(db, 7)
    return pages


async def test_what_is_booked_while_a_statement_is_written_is_not_in_it(
    books: Database,
) -> None:
    before = (await balance(books)).posted
    export = await export_statement(books, ALICE, ALWAYS)
    pages = await _with_bookings(books, export)
    assert [len(page.rows) for page in pages] == [4, 4, 2]
    assert export.total == sum(page.looked_at for page in pages) == 10
    last = pages[-1].rows[-1]["balance_after"]
    assert last * 1_000_000 == before
    assert (await balance(books)).posted != before


async def test_a_statement_holds_no_transaction_while_its_reader_is_slow(
    books: Database,
) -> None:
    export = await export_statement(books, ALICE, ALWAYS)
    async for _ in export.pages:
        assert books.reader.pool.checkedout() == 0


async def test_what_is_booked_while_the_journal_is_written_is_not_in_it(
    books: Database,
) -> None:
    async with export_journal(books, ALWAYS) as export:
        pages = await _with_bookings(books, export)
    assert [len(page.rows) for page in pages] == [4, 4, 3]
    assert export.total == sum(page.looked_at for page in pages) == 11
    rows = [row for page in pages for row in page.rows]
    assert len({(row["transaction"], row["position"]) for row in rows}) == 11
    assert "late" not in str(rows)


async def test_the_journal_adds_up_to_what_customers_have(books: Database) -> None:
    totals: dict[Any, Any] = {}
    async with export_journal(books, ALWAYS) as export:
        async for page in export.pages:
            for row in page.rows:
                for side, sign in (("debit", -1), ("credit", 1)):
                    account = row[side], row["asset"]
                    moved = sign * row["amount"]
                    totals[account] = totals.get(account, 0) + moved
    (owed,) = [total for (code, _), total in totals.items() if ":customer:" in code]
    assert owed * 1_000_000 == (await balance(books)).posted
    for asset in ("CREDIT", "USDC"):
        assert sum(total for (_, one), total in totals.items() if one == asset) == 0


async def test_an_export_that_nobody_finishes_leaves_nothing_open(
    books: Database,
) -> None:
    async with export_journal(books, ALWAYS) as export:
        await anext(aiter(written_as(Format.JSONL, export)))
    export = await export_statement(books, ALICE, ALWAYS)
    reading = written_as(Format.CSV, export)
    await anext(reading)
    await anext(reading)
    await asyncio.sleep(0)
    assert books.reader.pool.checkedout() == 0
