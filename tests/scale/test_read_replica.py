"""Reads that may lag come from a standby; what moves money asks the primary.

The list of both is in docs/scaling.md.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tallystick.credits import holds
from tallystick.customers.wallets import create_customer
from tallystick.exports.files import Format, period, written_as
from tallystick.exports.journal import export_journal
from tallystick.exports.statement import export_statement
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, open_database
from tallystick.kernel.failing import DatabaseBusy, DatabaseLost, DatabaseReadOnly
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.balances import balance_at, customer_balance
from tallystick.ledger.errors import InsufficientCredits
from tallystick.ledger.explain import explain
from tallystick.ledger.posting import Posted
from tallystick.ledger.statement import statement
from tests.ledger.bookings import ALICE, audit, balance, book, charge, give
from tests.processes import run
from tests.scale.replicated import Replicated
from tests.test_cli import all_of


@pytest.fixture
async def split(replicated: Replicated, clock: OffsetClock) -> AsyncIterator[Database]:
    """Writes to the primary, reads from the standby."""
    db = replicated.open(clock)
    await db.start()
    yield db
    await db.close()


@pytest.fixture
async def primary(
    replicated: Replicated, clock: OffsetClock
) -> AsyncIterator[Database]:
    """Reads and writes on the primary; its audit passes when the test is over."""
    db = open_database(replicated.primary_url, clock)
    await db.start()
    yield db
    assert await audit(db) == []
    await db.close()


async def shown(db: Database, transaction_id: int) -> list[object]:
    """Everything that a customer or an accountant may read."""
    now = db.clock.now_ms()
    everything = period(None, None)
    async with db.read() as session:
        told: list[object] = [
            await customer_balance(session, ALICE),
            await balance_at(session, ALICE, now),
            await statement(session, ALICE, limit=50),
            await explain(session, ALICE, transaction_id),
        ]
    lines = await export_statement(db, ALICE, everything)
    told.append([part.text async for part in written_as(Format.CSV, lines)])
    async with export_journal(db, everything) as journal:
        told.append([part.text async for part in written_as(Format.JSONL, journal)])
    return told


async def test_a_standby_shows_what_the_primary_shows(
    replicated: Replicated, primary: Database, split: Database
) -> None:
    await give(split, 100)
    charged = await book(split, charge(30, "one"))
    await replicated.catch_up()
    wanted = charged.ledger_transaction_id
    assert await shown(split, wanted) == await shown(primary, wanted)
    assert await audit(split) == []


async def test_the_programs_that_only_read_run_on_a_standby(
    replicated: Replicated, primary: Database, tmp_path: Path
) -> None:
    customer = await primary.write(create_customer)
    await give(primary, 100, customer)
    await replicated.catch_up()
    settings = {"DATABASE_URL": replicated.standby.url(replicated.name)}

    async def program(*arguments: str) -> str:
        ended = await run(*arguments, cwd=tmp_path, **settings)
        assert ended.code == 0, ended.said
        return ended.out

    journal, audited, _ = await all_of(
        program("export", "journal"),
        program("audit", "--books-only"),
        program("backup", "books.backup"),
    )
    assert "expense:promotions" in journal
    assert "Everything adds up." in audited
    assert (tmp_path / "books.backup").stat().st_size > 0


async def test_nothing_can_be_written_to_a_standby(replicated: Replicated) -> None:
    db = open_database(replicated.standby.url(replicated.name))
    with pytest.raises(DatabaseReadOnly):
        await db.start()
    await db.close()


async def test_a_standby_that_lags_lets_nobody_spend_twice(
    replicated: Replicated, primary: Database, split: Database
) -> None:
    await give(split, 100)
    await replicated.fall_behind()
    calls = [charge(10, f"call {one}") for one in range(20)]
    told = await asyncio.gather(
        *(book(split, one) for one in calls), return_exceptions=True
    )
    served = [
        one
        for one, answer in zip(calls, told, strict=True)
        if isinstance(answer, Posted)
    ]
    assert len(served) == 10
    assert sum(isinstance(one, InsufficientCredits) for one in told) == 10
    assert (await book(split, served[0])).replayed
    assert (await balance(split)).available == 100  # what the standby still shows
    assert (await balance(primary)).available == 0
    await replicated.catch_up()
    assert (await balance(split)).available == 0


async def test_what_a_standby_does_not_show_yet_can_be_spent(
    replicated: Replicated, primary: Database, split: Database
) -> None:
    await replicated.fall_behind()
    await give(split, 100)

    async def hold_and_capture(session: WriteSession) -> None:
        held = await holds.place(
            session, ALICE, "x", MicroCredits(60), lifetime_seconds=60
        )
        assert held is not None
        await holds.capture(session, held.id, MicroCredits(50))

    await split.write(hold_and_capture)
    assert (await balance(split)).posted == 0
    assert (await balance(primary)).available == 50


async def test_a_read_in_the_way_of_the_log_is_ended_and_the_next_one_is_served(
    replicated: Replicated, primary: Database, split: Database
) -> None:
    """It sees what the primary has cleared away, and the standby will not wait."""
    await give(primary, 100)
    await replicated.catch_up()
    await replicated.set_patience("0")
    with pytest.raises((DatabaseBusy, DatabaseLost)):
        await _read_beside(replicated, primary, split)
    await replicated.set_patience("30s")
    assert (await balance(split)).available == 90


async def _read_beside(
    replicated: Replicated, primary: Database, split: Database
) -> None:
    async with split.read() as session:
        await customer_balance(session, ALICE)
        await book(primary, charge(10, "one"))
        await replicated.vacuum("account_balance")
        for _ in range(500):
            await customer_balance(session, ALICE)
            await asyncio.sleep(0.01)
