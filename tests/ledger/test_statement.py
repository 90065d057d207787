"""A customer can read how his balance came about."""

from dataclasses import replace
from decimal import Decimal

from tests.ledger.bookings import ALICE, BOB, balance, book, charge, give

from tallystick.kernel.db import Database
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import CREDIT, Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer
from tallystick.ledger.statement import (
    StatementLine,
    line_document,
    statement,
    written,
)


async def _pages(db: Database, customer_id: int, size: int) -> list[StatementLine]:
    lines: list[StatementLine] = []
    before = None
    while True:
        async with db.read() as session:
            page = await statement(session, customer_id, before=before, limit=size)
        if not page:
            return lines
        assert len(page) <= size
        lines += page
        before = page[-1].version


async def test_each_line_tells_the_balance_after_it(db: Database) -> None:
    await give(db, 10)
    for n in range(3):
        await book(db, charge(2, f"charge {n}"))
    async with db.read() as session:
        lines = await statement(session, ALICE, limit=10)
    assert [(one.amount, one.balance_after) for one in lines] == [
        (-2, 4),
        (-2, 6),
        (-2, 8),
        (10, 10),
    ]
    assert [one.kind for one in lines] == ["charge", "charge", "charge", "grant"]
    assert [one.memo for one in lines] == ["A call", "A call", "A call", "Welcome"]


async def test_pages_of_every_size_show_each_line_once(db: Database) -> None:
    for n in range(6):
        await give(db, 10)
        await book(db, charge(n + 1, f"charge {n}"))
    await give(db, 99, BOB)
    whole = await _pages(db, ALICE, 100)
    assert [one.version for one in whole] == list(range(12, 0, -1))
    assert sum(one.amount for one in whole) == (await balance(db)).posted
    for size in (1, 2, 5, 11, 12):
        assert await _pages(db, ALICE, size) == whole


async def test_two_customers_in_one_posting_see_their_own_side(db: Database) -> None:
    await give(db, 10)
    alice, bob = chart.customer_credits(ALICE), chart.customer_credits(BOB)
    back_and_forth = [
        Transfer(alice, bob, Amount(6, CREDIT)),
        Transfer(bob, alice, Amount(1, CREDIT)),
    ]
    key = digest16(b"move")
    posting = Posting(TransactionKind.CHARGE, key, back_and_forth, "moved")
    await book(db, posting)
    assert [one.amount for one in await _pages(db, ALICE, 9)] == [1, -6, 10]
    assert [one.balance_after for one in await _pages(db, BOB, 9)] == [5, 6]


async def test_a_customer_without_credits_has_an_empty_statement(db: Database) -> None:
    assert await _pages(db, ALICE, 5) == []
    async with db.read() as session:
        assert await written(session, ALICE) is None


async def test_a_line_is_told_in_exact_credits_under_the_id_of_its_transaction(
    db: Database,
) -> None:
    posted = await give(db, 1_250_000)
    (line,) = await _pages(db, ALICE, 5)
    assert line_document(line) == {
        "id": encode_id("ltx", posted.ledger_transaction_id),
        "type": "grant",
        "description": "Welcome",
        "credits": Decimal("1.25"),
        "balance_after": Decimal("1.25"),
        "posted_at_ms": line.posted_at_ms,
    }


async def test_a_line_keeps_when_it_happened_and_when_it_was_booked(
    db: Database,
) -> None:
    await give(db, 10)
    before = db.clock.now_ms()
    await book(db, replace(charge(1, "late"), occurred_at_ms=1))
    (line, _) = await _pages(db, ALICE, 5)
    assert before <= line.posted_at_ms <= db.clock.now_ms()
