"""What was spent says what it had been given for, and what it had cost."""

import pytest
from tests.ledger.bookings import ALICE, BOB, book, buy, give_lot, newest_grant

from tallystick.credits.models import GrantCategory
from tallystick.credits.origins import Origin, origins_of
from tallystick.kernel.db import Database
from tallystick.kernel.money import CREDIT, USDC, Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.explain import explain
from tallystick.ledger.lots import Draw
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer


async def origins(db: Database, *draws: Draw) -> list[Origin]:
    async with db.read() as session:
        return await origins_of(session, draws)


async def test_what_was_given_cost_nothing_and_what_was_bought_its_share(
    db: Database,
) -> None:
    await buy(db, usdc=30, credits_=100)
    bought = await newest_grant(db)
    trial = await give_lot(db, 9, category=GrantCategory.TRIAL)
    found = await origins(db, Draw(bought, -10), Draw(trial, 4), Draw(bought, 100))
    assert found == [
        Origin(bought, -10, "paid", 3, USDC),
        Origin(trial, 4, "trial", None, None),
        Origin(bought, 100, "paid", 30, USDC),
    ]


@pytest.mark.parametrize(
    ("drawn", "cost"),
    [(1, 0), (4, 0), (5, 1), (-5, 1), (14, 1), (15, 2), (20, 2)],
)
async def test_a_share_is_told_to_the_nearest_unit_and_half_a_unit_as_one(
    db: Database, drawn: int, cost: int
) -> None:
    await buy(db, usdc=2, credits_=20)
    (found,) = await origins(db, Draw(await newest_grant(db), drawn))
    assert (found.amount, found.cost) == (drawn, cost)


async def test_credits_of_another_customer_have_no_origin(db: Database) -> None:
    await buy(db, usdc=2, credits_=20)
    alice, bob = chart.customer_credits(ALICE), chart.customer_credits(BOB)
    gift = Transfer(alice, bob, Amount(6, CREDIT))
    posting = Posting(TransactionKind.CHARGE, digest16(b"gift"), [gift], "gift")
    given = await book(db, posting)
    async with db.read() as session:
        (drawn,) = (await explain(session, BOB, given.ledger_transaction_id)).draws
    assert await origins(db, drawn) == [Origin(drawn.lot_id, 6, None, None, None)]


async def test_who_drew_nothing_has_no_origins(db: Database) -> None:
    assert await origins(db) == []
