"""Copies of one reversal that come at once are one reversal, and all are told of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest
from tests.credits.test_debts import claw_back, owed
from tests.ledger.bookings import (
    balance,
    book,
    buy,
    charge,
    give,
    give_lot,
    newest_grant,
    refund,
    void,
)

from tallystick.credits.errors import NothingToTakeBack
from tallystick.kernel.db import Database, open_database
from tallystick.ledger.posting import Posted

ROUNDS = 8


@pytest.fixture
async def other(db: Database, database_url: str) -> AsyncIterator[Database]:
    """Another process on the same database, where it may have several."""
    if db.is_sqlite:
        yield db
        return
    opened = open_database(database_url, db.clock)
    await opened.start()
    yield opened
    await opened.close()


async def _require_one(*copies: Awaitable[Posted | None]) -> None:
    """One of them was booked, and the others are told which."""
    done = await asyncio.gather(*copies)
    booked = [one for one in done if one is not None]
    assert len(booked) == len(copies)
    assert len({one.ledger_transaction_id for one in booked}) == 1
    assert sum(not one.replayed for one in booked) == 1


async def test_copies_of_a_void_at_once_are_one_void(
    db: Database, other: Database
) -> None:
    for n in range(ROUNDS):
        grant = await give_lot(db, 100)
        await _require_one(*(void(one, grant, f"{n}") for one in (db, other, db)))
    assert (await balance(db)).posted == 0


@pytest.mark.parametrize("amount", [20, None], ids=["a part", "all"])
async def test_copies_of_a_refund_at_once_are_one_refund(
    db: Database, other: Database, amount: int | None
) -> None:
    await give(db, 50 * ROUNDS)
    for n in range(ROUNDS):
        charged = (await book(db, charge(50, f"call {n}"))).ledger_transaction_id
        await _require_one(
            *(refund(one, charged, amount, f"{n}") for one in (db, other, db))
        )
    assert (await balance(db)).posted == (amount or 50) * ROUNDS


async def test_copies_of_a_claw_back_at_once_make_one_debt(
    db: Database, other: Database
) -> None:
    for n in range(ROUNDS):
        bought = await buy(db, 1_000_000, 100)
        await book(db, charge(30, f"call {n}"))
        await _require_one(*(claw_back(one, bought, f"{n}") for one in (db, other, db)))
    assert await owed(db) == 30 * ROUNDS
    assert (await balance(db)).posted == 0


async def test_a_refund_of_all_gives_back_what_one_of_a_part_left(
    db: Database, other: Database
) -> None:
    """Whichever comes first: the part takes its share, or finds that all is back."""
    await give(db, 50)
    for n in range(ROUNDS):
        charged = (await book(db, charge(50, f"call {n}"))).ledger_transaction_id
        _, *copies = await asyncio.gather(
            refund(other, charged, 10, f"part {n}"),
            *(refund(one, charged, None, f"{n}") for one in (db, other)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, Posted) for one in copies) == len(copies), copies
        assert (await balance(db)).posted == 50


async def test_a_claw_back_beside_a_void_takes_what_it_left(
    db: Database, other: Database
) -> None:
    for n in range(ROUNDS):
        bought = await buy(db, 1_000_000, 100)
        grant = await newest_grant(db)
        voided, clawed = await asyncio.gather(
            void(other, grant, f"void {n}"),
            claw_back(db, bought, f"claw {n}"),
            return_exceptions=True,
        )
        assert isinstance(voided, Posted | NothingToTakeBack)
        assert isinstance(clawed, Posted), "its money is not there, whoever took more"
    assert (await balance(db)).posted == 0
