"""No request reads a table that only grows from one end to the other."""

import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from tests.credits.calls import (
    capture,
    expire_due,
    extend,
    give_back,
    hold,
    limits_of,
    place,
    release,
    set_limit,
    settle_due,
    take,
)
from tests.ledger.bookings import (
    ALICE,
    balance,
    book,
    buy,
    charge,
    give,
    give_lot,
    refund,
    void,
)

from tallystick.claims.claim import (
    ClaimedMoney,
    Use,
    abandon,
    claim,
    decide,
    find_claim,
    overtake,
    prune_unsettled,
    read_claim,
    take_over,
)
from tallystick.claims.models import ClaimState
from tallystick.credits.errors import LimitReached
from tallystick.credits.grants import grants_of
from tallystick.credits.limits import LimitTake, remove_limit, remove_limits_of
from tallystick.customers.wallets import ensure_customer_of_wallet
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.balances import balance_at
from tallystick.ledger.statement import statement
from tallystick.payments.topups import prune_unsent

_GROWING = (
    "transfer|ledger_transaction|ledger_account|account_balance|hold|claim|lot|reversed"
    "|spend_limit"
)
_SCAN = re.compile(rf"SCAN ({_GROWING}|credit_grant|wallet|customer)\b")
_MONEY = ClaimedMoney(1, bytes(20), bytes(20), bytes(32), 1, 0, 1, bytes(16))

Verb = Callable[[Database, OffsetClock], Awaitable[None]]


async def _charges(db: Database, _clock: OffsetClock) -> None:
    await book(db, charge(1, "a"))
    await book(db, charge(1, "a"))
    await balance(db)


async def _grants(db: Database, _clock: OffsetClock) -> None:
    await buy(db, 1, 1)
    async with db.read() as session:
        assert await grants_of(session, ALICE, limit=1)


async def _lots(db: Database, clock: OffsetClock) -> None:
    lot_id = await give_lot(db, 9, expires_at_ms=db.clock.now_ms() + 1_000)
    charged = await book(db, charge(3, "from a lot"))
    await refund(db, charged.ledger_transaction_id, 1)
    await refund(db, charged.ledger_transaction_id)
    await void(db, lot_id)
    await give_lot(db, 9, expires_at_ms=db.clock.now_ms() + 1_000)
    clock.advance(2)
    await balance(db)
    await settle_due(db)
    async with db.read() as session:
        await balance_at(session, ALICE, db.clock.now_ms())


async def _holds(db: Database, clock: OffsetClock) -> None:
    await capture(db, await hold(db, 1))
    await release(db, await hold(db, 1))
    await extend(db, await hold(db, 1), 600)
    await hold(db, 1, seconds=1)
    clock.advance(2)
    await place(db, 1_000_000)
    await hold(db, 1, seconds=1)
    clock.advance(2)
    await expire_due(db)


async def _limits(db: Database, _clock: OffsetClock) -> None:
    one = await set_limit(db, 5)
    await give_back(db, await take(db, (one, 3)))
    with pytest.raises(LimitReached):
        await take(db, (one, 6))
    await release(db, await hold(db, 1, limits=[LimitTake(one, 1)]))
    await limits_of(db, "key:1", "key:2")
    await db.write(lambda session: remove_limit(session, "key:1", "budget"))
    await db.write(lambda session: remove_limits_of(session, "key:1"))


async def _statements(db: Database, _clock: OffsetClock) -> None:
    async with db.read() as session:
        await statement(session, ALICE, before=3, limit=2)


async def _claims(db: Database, _clock: OffsetClock) -> None:
    async def work(session: WriteSession) -> None:
        customer = await ensure_customer_of_wallet(session, bytes(20))
        await ensure_customer_of_wallet(session, bytes(20))
        use = Use(customer, "x", MicroCredits(1), 0)
        made = await claim(session, _MONEY, use, state=ClaimState.CLAIMED)
        assert made is not None
        await find_claim(session, _MONEY)
        await take_over(session, made.id, wait_ms=1)
        await decide(session, made.id, ClaimState.WAIVED)
        await overtake(session, made.id)
        await abandon(session, made.id)
        await read_claim(session, made.id)
        await prune_unsettled(session, before_seconds=9)
        await prune_unsent(session, before_seconds=9)

    await db.write(work)


@contextmanager
def _noted(db: Database) -> Iterator[list[tuple[str, object]]]:
    statements: list[tuple[str, object]] = []

    def note(_c: object, _u: object, sql: str, values: object, *_: object) -> None:
        if not sql.startswith("BEGIN"):
            statements.append((sql, values))

    engines = (db.writer.sync_engine, db.reader.sync_engine)
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    yield statements
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)


def _scans(db: Database, sql: str, values: Any) -> list[str]:
    if isinstance(values, list):
        values = values[0]
    with closing(sqlite3.connect(str(db.writer.url.database))) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", values).fetchall()
    return [row[3] for row in rows if _SCAN.match(row[3])]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "verb", [_charges, _grants, _lots, _holds, _limits, _statements, _claims]
)
async def test_every_statement_finds_its_rows_by_an_index(
    db: Database, clock: OffsetClock, verb: Verb
) -> None:
    await give(db, 100)
    with _noted(db) as statements:
        await verb(db, clock)
    assert statements
    found = {sql: _scans(db, sql, values) for sql, values in statements}
    assert {sql: scans for sql, scans in found.items() if scans} == {}
