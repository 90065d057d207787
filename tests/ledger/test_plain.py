"""Plain charges are booked together as they would be one by one."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.exc import IntegrityError
from tests.ledger.bookings import (
    ALICE,
    BOB,
    balance,
    book,
    charge,
    fresh_key,
    give,
    give_lot,
)

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.ledger.plain import Booked, post_plain
from tallystick.ledger.posting import Posting
from tallystick.ledger.statement import statement

STRANGER = 99


async def book_all(db: Database, postings: Sequence[Posting]) -> list[Booked | None]:
    return await db.write(lambda session: post_plain(session, postings))


async def rows(db: Database, table: str) -> int:
    async with db.read() as session:
        (row,) = await query(session, f"SELECT COUNT(*) AS rows FROM {table}")
    return int(row["rows"])


async def test_each_of_many_is_a_line_with_the_balance_after_it(db: Database) -> None:
    await give(db, 10, ALICE)
    await give(db, 10, BOB)
    amounts = [(ALICE, 1), (BOB, 2), (ALICE, 3), (BOB, 4), (ALICE, 5)]
    booked = await book_all(
        db, [charge(amount, fresh_key().hex(), who) for who, amount in amounts]
    )
    left = [one and one.balance_after for one in booked]
    assert left == [9, 8, 6, 4, 1]
    async with db.read() as session:
        lines = await statement(session, ALICE, before=None, limit=10)
    assert [(one.amount, one.balance_after) for one in lines] == [
        (-5, 1),
        (-3, 6),
        (-1, 9),
        (10, 10),
    ]
    found = [one.ledger_transaction_id for one in lines[:3]]
    assert found == [one.ledger_transaction_id for one in reversed(booked[::2]) if one]


async def test_who_has_not_enough_is_left_alone_and_the_others_are_served(
    db: Database,
) -> None:
    await give(db, 5)
    before = await rows(db, "ledger_account")
    booked = await book_all(
        db,
        [
            charge(4, "a"),
            charge(2, "b"),
            charge(1, "c"),
            charge(1, "d"),
            charge(1, "e", STRANGER),
        ],
    )
    assert [one is not None for one in booked] == [True, False, True, False, False]
    assert (await balance(db)).available == 0
    assert await rows(db, "ledger_transaction") == 3
    assert await rows(db, "ledger_account") == before + 1, "revenue, and no stranger's"


async def test_a_key_that_is_known_or_comes_twice_is_not_booked_again(
    db: Database,
) -> None:
    await give(db, 10)
    first = await book(db, charge(1, "known"))
    booked = await book_all(
        db, [charge(1, "known"), charge(1, "new"), charge(1, "new")]
    )
    assert [one is not None for one in booked] == [False, True, False]
    assert (await book(db, charge(1, "known"))).replayed
    again = await book(db, charge(1, "new"))
    assert booked[1] is not None
    assert again.ledger_transaction_id == booked[1].ledger_transaction_id
    assert first.ledger_transaction_id != again.ledger_transaction_id
    assert (await balance(db)).available == 8


async def test_what_has_expired_is_booked_off_and_never_spent(
    db: Database, clock: OffsetClock
) -> None:
    now = clock.now_ms()
    await give_lot(db, 7, expires_at_ms=now + 60_000)
    await give(db, 3)
    clock.advance(61)
    booked = await book_all(db, [charge(2, "a"), charge(2, "b")])
    assert [one and one.balance_after for one in booked] == [1, None]
    assert (await balance(db)).posted == 1


async def test_draws_follow_the_burn_order_through_the_whole_batch(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 4)
    await give_lot(db, 4, expires_at_ms=clock.now_ms() + 60_000)
    await book_all(db, [charge(3, "a"), charge(3, "b")])
    async with db.read() as session:
        left = await query(session, "SELECT remaining FROM lot ORDER BY id")
    assert [row["remaining"] for row in left] == [2, 0]


async def test_nothing_to_book_books_nothing(db: Database) -> None:
    assert await book_all(db, []) == []
    assert await book_all(db, [charge(1, "a", STRANGER)]) == [None]
    assert await rows(db, "ledger_transaction") == 0


async def test_batches_that_race_for_a_key_book_it_once(db: Database) -> None:
    """Who loses has written nothing, and may post each of his charges alone."""
    await give(db, 1_000)
    shared = [charge(1, f"raced {number}") for number in range(5)]
    batches = [
        [*shared, charge(1, f"own {writer}", ALICE if writer % 2 else BOB)]
        for writer in range(8)
    ]
    told = await asyncio.gather(
        *[book_all(db, one) for one in batches], return_exceptions=True
    )
    for one in told:
        assert isinstance(one, list | IntegrityError), one
    booked = [row for one in told if isinstance(one, list) for row in one if row]
    assert len({one.ledger_transaction_id for one in booked}) == len(booked)
    assert (await balance(db)).available == 1_000 - len(booked)
    replays = [await book(db, one) for one in shared]
    assert all(one.replayed for one in replays), "the winner booked them"
