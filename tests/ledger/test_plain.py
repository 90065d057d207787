"""Plain charges are booked together as they would be one by one."""

import asyncio
from collections.abc import Sequence

import pytest
from tests.credits.calls import hold, release
from tests.ledger.bookings import (
    ALICE,
    BOB,
    audit,
    balance,
    book,
    charge,
    give,
    give_lot,
)

from tallystick.credits.plain_holds import HOLDS, hold_row
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, query
from tallystick.kernel.lane import GroupRefused
from tallystick.ledger.balances import Balance
from tallystick.ledger.plain import (
    Beside,
    Plain,
    PlainCharge,
    PlainHold,
    Table,
    write_plain,
)
from tallystick.ledger.plain_sqlite import _padded
from tallystick.ledger.posting import Posting
from tallystick.ledger.statement import statement

STRANGER = 99
# Any table that has a UNIQUE column will do.
_ONCE = Table(
    "stored_answer",
    (
        ("owner", "bigint"),
        ("key", "bytea"),
        ("fingerprint", "bytea"),
        ("state", "text"),
        ("expires_at_ms", "bigint"),
    ),
    once="key",
)


@pytest.fixture(autouse=True)
async def revenue(db: Database) -> None:
    """The first charge for a feature opens its account, alone."""
    await give(db, 1, BOB)
    await book(db, charge(1, "the first", BOB))


def plain(db: Database, amount: int, customer_id: int = ALICE) -> PlainCharge:
    return PlainCharge(db.ids.new(), customer_id, amount, "x", "x")


async def book_all(
    db: Database,
    wanted: Sequence[tuple[int, int]],
    keys: Sequence[str | None] = (),
) -> list[int | None]:
    charges = [plain(db, amount, who) for who, amount in wanted]
    rows = [
        key and (db.ids.new(), key.encode().ljust(16), bytes(16), "running", 1 << 60)
        for key in keys
    ]
    beside = [Beside(_ONCE, [row or None for row in rows])] if keys else []
    return await write_plain(db, charges, beside)


async def rows(db: Database, table: str) -> int:
    async with db.read() as session:
        (row,) = await query(session, f"SELECT COUNT(*) AS rows FROM {table}")
    return int(row["rows"])


async def revision(db: Database) -> int:
    async with db.read() as session:
        (row,) = await query(
            session,
            f"SELECT revision FROM account_balance WHERE customer_id = {ALICE}",
        )
    return int(row["revision"])


async def test_each_of_many_is_a_line_with_the_balance_after_it(db: Database) -> None:
    await give(db, 10, ALICE)
    await give(db, 10, BOB)
    wanted = [(ALICE, 1), (BOB, 2), (ALICE, 3), (BOB, 4), (ALICE, 5)]
    assert await book_all(db, wanted) == [9, 8, 6, 4, 1]
    async with db.read() as session:
        lines = await statement(session, ALICE, before=None, limit=10)
    assert [(one.amount, one.balance_after) for one in lines] == [
        (-5, 1),
        (-3, 6),
        (-1, 9),
        (10, 10),
    ]


async def test_it_writes_what_posting_would_have_written(db: Database) -> None:
    """All but the ids and the key, which a plain charge does not have."""
    await give(db, 10)
    await book_all(db, [(ALICE, 3)])
    posting = charge(3, "the long way")
    alike = Posting(posting.kind, posting.idempotency_key, posting.transfers, "", "x")
    await book(db, alike)
    async with db.read() as session:
        found = await query(session, _BOTH)
    quick, slow = [dict(row) for row in found]
    assert quick.pop("balance_after") == 7
    assert slow.pop("balance_after") == 4
    assert quick.pop("version") + 1 == slow.pop("version")
    assert quick == slow


async def test_a_hold_takes_from_the_lot_and_leaves_the_balance(db: Database) -> None:
    await give(db, 10)
    now = db.clock.now_ms()
    items: list[Plain] = [
        PlainHold(db.ids.new(), ALICE, 4),
        PlainHold(db.ids.new(), ALICE, 3),
        plain(db, 2),
        PlainHold(db.ids.new(), ALICE, 9),
    ]
    beside = [
        hold_row(one, "x", now=now, lifetime_seconds=60)
        if isinstance(one, PlainHold)
        else None
        for one in items
    ]
    booked = await write_plain(db, items, [Beside(HOLDS, beside)])
    assert booked == [10, 10, 8, None]
    assert await balance(db) == Balance(8, 7)
    async with db.read() as session:
        (lot,) = await query(
            session,
            "SELECT lot_left.id, remaining FROM lot_left JOIN ledger_account"
            f" ON ledger_account.id = ledger_account_id WHERE customer_id = {ALICE}",
        )
        held = await query(session, "SELECT amount, lot_id FROM hold ORDER BY id")
    assert lot["remaining"] == 1
    assert [(row["amount"], row["lot_id"]) for row in held] == [
        (4, lot["id"]),
        (3, lot["id"]),
    ]


async def test_what_two_rows_beside_it_would_repeat_is_left_alone(db: Database) -> None:
    await give(db, 10)
    again = Table("hold", HOLDS.columns, once="id", lot="lot_id")
    one = PlainHold(db.ids.new(), ALICE, 4)
    row = hold_row(one, "x", now=db.clock.now_ms(), lifetime_seconds=60)
    answer = (db.ids.new(), b"a".ljust(16), bytes(16), "running", 1 << 60)
    beside = [Beside(_ONCE, [answer]), Beside(again, [row])]
    assert await write_plain(db, [one], beside) == [10]
    assert await write_plain(db, [one], beside) == [None]
    assert await balance(db) == Balance(10, 4)


async def test_of_a_row_beside_only_the_first_column_must_say_something(
    db: Database,
) -> None:
    await give(db, 10)
    first, *others = HOLDS.columns
    limited = Table("hold", (first, ("limits", "text"), *others), lot=HOLDS.lot)
    one = PlainHold(db.ids.new(), ALICE, 4)
    number, *rest = hold_row(one, "x", now=db.clock.now_ms(), lifetime_seconds=60)
    beside = [Beside(limited, [(number, None, *rest)])]
    assert await write_plain(db, [one], beside) == [10]
    assert await rows(db, "hold") == 1


@pytest.mark.parametrize(
    ("asked", "padded"), [(0, 0), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (9, 16)]
)
def test_groups_of_about_the_same_size_ask_in_the_same_words(
    asked: int, padded: int
) -> None:
    """Else SQLite would prepare a statement for each size that a group can have."""
    values = list(range(asked))
    assert _padded(values) == values + [asked - 1] * (padded - asked)


_BOTH = """
    SELECT kind, reference, memo, reverses_id, position, debit_account_id,
           credit_account_id, amount, debit_balance_after AS balance_after,
           debit_version AS version, credit_balance_after, credit_version, lot_id, lots
      FROM ledger_transaction JOIN transfer
        ON ledger_transaction_id = ledger_transaction.id
     WHERE reference = '' ORDER BY ledger_transaction.id"""


async def test_who_has_not_enough_is_left_alone_and_the_others_are_served(
    db: Database,
) -> None:
    await give(db, 5)
    await give(db, 9, BOB)
    before = await rows(db, "ledger_transaction"), await rows(db, "ledger_account")
    booked = await book_all(db, [(ALICE, 4), (ALICE, 2), (BOB, 9), (STRANGER, 1)])
    assert booked == [1, None, 0, None]
    assert (await balance(db)).available == 1
    after = await rows(db, "ledger_transaction"), await rows(db, "ledger_account")
    assert after == (before[0] + 2, before[1])


async def test_a_feature_that_never_earned_anything_goes_the_long_way(
    db: Database,
) -> None:
    await give(db, 5)
    new = plain(db, 1)._replace(feature="new")
    assert await write_plain(db, [new, plain(db, 1)], []) == [None, 4]


async def test_what_stands_beside_a_charge_once_is_booked_once(db: Database) -> None:
    await give(db, 10)
    first = await book_all(db, [(ALICE, 1), (ALICE, 1)], ["a", None])
    assert first == [9, 8]
    again = await book_all(db, [(ALICE, 1)] * 4, ["a", "b", "b", None])
    assert [one is not None for one in again] == [False, True, False, True]
    assert await rows(db, "stored_answer") == 2
    assert (await balance(db)).available == 6


async def test_a_row_beside_a_charge_that_is_not_booked_is_not_written(
    db: Database,
) -> None:
    await give(db, 1)
    assert await book_all(db, [(ALICE, 1), (ALICE, 1)], ["a", "b"]) == [0, None]
    assert await rows(db, "stored_answer") == 1


async def test_what_has_expired_or_does_not_count_yet_is_never_spent(
    db: Database, clock: OffsetClock
) -> None:
    now = clock.now_ms()
    await give_lot(db, 7, expires_at_ms=now + 60_000)
    await give_lot(db, 7, effective_at_ms=now + 120_000)
    assert await book_all(db, [(ALICE, 2)]) == [12]
    clock.advance(61)
    assert await book_all(db, [(ALICE, 2)]) == [None], "time has changed the lots"
    clock.advance(61)
    assert await book_all(db, [(ALICE, 2)]) == [None]
    await book(db, charge(1, "the long way books what expired"))
    assert await book_all(db, [(ALICE, 2)]) == [4]


async def test_the_lot_that_burns_is_the_one_that_is_first_in_order(
    db: Database, clock: OffsetClock
) -> None:
    await give(db, 4)
    assert await book_all(db, [(ALICE, 1)]) == [3]
    await give_lot(db, 4, expires_at_ms=clock.now_ms() + 60_000)
    assert await book_all(db, [(ALICE, 3), (ALICE, 2)]) == [4, None], "1 is left of it"
    await book(db, charge(2, "spends both"))
    async with db.read() as session:
        left = await query(
            session,
            "SELECT remaining FROM lot_left JOIN ledger_account"
            " ON ledger_account.id = ledger_account_id"
            f" WHERE customer_id = {ALICE} ORDER BY lot_left.id",
        )
    assert [row["remaining"] for row in left] == [2, 0]


async def test_what_burns_at_both_doors_is_counted_once(db: Database) -> None:
    """The long way and the short one take turns at the same customer."""
    await give(db, 100)

    async def short() -> list[int | None]:
        return await book_all(db, [(ALICE, 1)] * 3)

    async def long(number: int) -> None:
        await book(db, charge(1, f"long {number}"))

    told = await asyncio.gather(*[short() for _ in range(8)], return_exceptions=True)
    tasks = [short() if number % 2 else long(number) for number in range(16)]
    told += await asyncio.gather(*tasks, return_exceptions=True)
    served = sum(
        one is not None for some in told if isinstance(some, list) for one in some
    )
    assert all(isinstance(one, list | GroupRefused | None) for one in told), told
    assert (await balance(db)).available == 100 - served - 8
    assert await audit(db) == []


async def test_every_change_raises_the_revision_that_tells_who_was_overtaken(
    db: Database,
) -> None:
    """Whichever door it comes through, and though it changes nothing but what is held."""
    seen = []
    for number in range(3):
        await give(db, 10)
        seen.append(await revision(db))
        await book(db, charge(1, f"the long way {number}"))
        seen.append(await revision(db))
        await book_all(db, [(ALICE, 1), (ALICE, 1)])
        seen.append(await revision(db))
        hold_id = await hold(db, 2)
        seen.append(await revision(db))
        await release(db, hold_id)
        seen.append(await revision(db))
    assert seen == sorted(set(seen))


async def test_nothing_to_book_books_nothing(db: Database) -> None:
    before = await rows(db, "ledger_transaction")
    assert await book_all(db, []) == []
    assert await book_all(db, [(STRANGER, 1)]) == [None]
    assert await rows(db, "ledger_transaction") == before


async def test_groups_that_race_for_a_key_book_it_once(db: Database) -> None:
    """Who loses has written nothing, and may ask for each of his charges alone."""
    await give(db, 1_000)
    keys = [f"raced {number}" for number in range(5)]
    told = await asyncio.gather(
        *[book_all(db, [(ALICE, 1)] * 5, keys) for _ in range(8)],
        return_exceptions=True,
    )
    assert all(isinstance(one, list | GroupRefused) for one in told), told
    served = [row for one in told if isinstance(one, list) for row in one if row]
    assert len(served) == len(set(served)) == 5
    assert (await balance(db)).available == 995
