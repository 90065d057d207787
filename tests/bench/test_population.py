"""Books that a benchmark makes are such as the ledger would have written."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bench.books import GIVEN, Books, empty_books
from bench.load import made_books
from bench.plans import ReadWithoutIndex, require_index
from bench.population import Population

from tallystick.audit import audit
from tallystick.credits.grants import grant_promotional
from tallystick.customers.wallets import create_customer
from tallystick.kernel.clock import SystemClock
from tallystick.kernel.db import Database, ReadSession, WriteSession, query
from tallystick.kernel.ids import made_at_ms
from tallystick.ledger.statement import statement

_DAY_MS = 24 * 3600 * 1000
_NEWEST = [
    ("ledger_account", "customer_id IS NOT NULL"),
    ("account_balance", "true"),
    ("ledger_transaction", "kind = 'grant'"),
    ("ledger_transaction", "kind = 'charge'"),
    ("transfer", "credit_version IS NOT NULL"),
    ("transfer", "debit_version IS NOT NULL"),
    ("lot", "true"),
    ("credit_grant", "true"),
    ("usage_event", "true"),
]


def _made(url: str, customers: int, entries: int) -> AbstractAsyncContextManager[Books]:
    return made_books(url, Population(customers, entries, SystemClock().now_ms()))


@asynccontextmanager
async def _real(url: str) -> AsyncIterator[Books]:
    """What the ledger wrote: two customers, each with a grant."""
    async with empty_books(url) as db:
        made = [await db.write(_fund) for _ in range(2)]
        yield Books(db, made)


async def _fund(session: WriteSession) -> int:
    customer = await create_customer(session)
    key = secrets.token_bytes(16)
    said = {"reference": "bench", "memo": "bench"}
    await grant_promotional(session, customer, GIVEN, idempotency_key=key, **said)
    return customer


async def _rows(db: Database, sql: str) -> list[dict[str, Any]]:
    async with db.read() as session:
        return [dict(row) for row in await query(session, sql)]


async def test_made_books_pass_the_audit_before_and_after_more_charges(
    database_url: str,
) -> None:
    async with _made(database_url, 30, 206) as books:
        assert (await audit(books.db, None)).findings == []
        more = await books.charges(callers=8, seconds=0.2)
        assert more.took_ms
        assert (await audit(books.db, None)).findings == []
        (found,) = await _rows(books.db, "SELECT COUNT(*) AS entries FROM entry")
        assert found["entries"] == 206 + 2 * len(more.took_ms)


async def test_made_rows_rise_with_time_and_their_answers_are_forgotten_by_now(
    database_url: str,
) -> None:
    async with _made(database_url, 30, 206) as books:
        booked = await _rows(
            books.db, "SELECT id, posted_at_ms FROM ledger_transaction ORDER BY id"
        )
        assert len(booked) == 103
        assert all(made_at_ms(one["id"]) == one["posted_at_ms"] for one in booked)
        newest = booked[-1]["posted_at_ms"]
        assert newest <= SystemClock().now_ms() - _DAY_MS


async def test_made_rows_say_what_real_ones_say(
    database_url: str, tmp_path: Path
) -> None:
    real_url = f"sqlite+aiosqlite:///{tmp_path / 'real.sqlite3'}"
    async with _made(database_url, 1, 4) as made, _real(real_url) as real:
        # The first charge of a feature opens its account and is not of the plain kind.
        for customer in real.customers:
            await Books(real.db, [customer]).charging()(0)
        for table, where in _NEWEST:
            sql = f"SELECT * FROM {table} WHERE {where} ORDER BY 1 DESC LIMIT 1"
            (by_us,), (by_the_ledger,) = (
                await _rows(made.db, sql),
                await _rows(real.db, sql),
            )
            assert _said(by_us) == _said(by_the_ledger), table


def _said(row: dict[str, Any]) -> dict[str, Any]:
    """Without what belongs to one customer or moment, but for whether it is there."""
    own = {
        name: value is None
        for name, value in row.items()
        if name.endswith(("id", "_ms", "_key", "_hash", "code"))
    }
    return row | own


async def test_a_read_that_no_index_answers_is_refused(database_url: str) -> None:
    async with _made(database_url, 100, 5_000) as books:
        page = partial(statement, customer_id=books.customers[7], limit=50)
        await require_index(books.db, page)

        async def whole_journal(session: ReadSession) -> object:
            return await query(session, "SELECT SUM(amount) FROM transfer")

        with pytest.raises(ReadWithoutIndex, match="transfer"):
            await require_index(books.db, whole_journal, few_pages=10)
