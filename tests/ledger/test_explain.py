"""A transaction is told in full to those whose credits it moved, and to nobody else."""

from dataclasses import replace

import pytest
from tests.ledger.bookings import (
    ALICE,
    BOB,
    POT,
    book,
    buy,
    charge,
    fresh_key,
    give,
    give_lot,
    newest_grant,
    refund,
)

from tallystick.kernel.db import Database
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import CREDIT, USDC, Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.errors import UnknownTransaction
from tallystick.ledger.explain import Entry, Explanation, Reversal, explain
from tallystick.ledger.lots import Draw
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, ToLots, Transfer
from tallystick.ledger.statement import statement

ALICE_S, BOB_S = chart.customer_credits(ALICE), chart.customer_credits(BOB)
FEE, TIP = chart.feature_revenue("fee"), chart.feature_revenue("tip")


async def explained(
    db: Database, transaction_id: int, customer_id: int = ALICE
) -> Explanation:
    async with db.read() as session:
        return await explain(session, customer_id, transaction_id)


async def moved(
    db: Database,
    *transfers: Transfer,
    kind: TransactionKind = TransactionKind.CHARGE,
    reverses_id: int | None = None,
) -> int:
    posting = Posting(kind, fresh_key(), transfers, "moved", reverses_id=reverses_id)
    return (await book(db, posting)).ledger_transaction_id


def credits_(amount: int) -> Amount:
    return Amount(amount, CREDIT)


async def test_a_charge_tells_its_line_its_lots_and_both_its_sides(
    db: Database,
) -> None:
    later = await give_lot(db, 10)
    soon = await give_lot(db, 4, expires_at_ms=db.clock.now_ms() + 3_600_000)
    posting = replace(charge(6, "six"), occurred_at_ms=5)
    charge_id = (await book(db, posting)).ledger_transaction_id
    async with db.read() as session:
        (line, *_) = await statement(session, ALICE, limit=9)
    assert await explained(db, charge_id) == Explanation(
        line,
        occurred_at_ms=5,
        idempotency_key=digest16(b"six"),
        reference="x",
        entries=[
            Entry(ALICE_S.code, CREDIT, -6, 8),
            Entry("revenue:feature:x", CREDIT, 6, None),
        ],
        draws=[Draw(soon, -4), Draw(later, -2)],
        reverses_id=None,
        reversed_by=[],
    )
    assert (line.ledger_transaction_id, line.amount) == (charge_id, -6)


async def test_a_purchase_tells_the_money_that_came_in_for_it(db: Database) -> None:
    bought = (await buy(db, 5, 50)).ledger_transaction_id
    found = await explained(db, bought)
    assert found.entries == [
        Entry(POT.code, USDC, -5, None),
        Entry("equity:exchange:USDC", USDC, 5, None),
        Entry("equity:exchange:CREDIT", CREDIT, -50, None),
        Entry(ALICE_S.code, CREDIT, 50, 50),
    ]
    assert found.draws == [Draw(await newest_grant(db), 50)]
    assert found.line.amount == 50


async def test_a_charge_names_who_took_it_back_and_is_named_by_them(
    db: Database,
) -> None:
    grant_id = await give_lot(db, 10)
    charge_id = (await book(db, charge(6, "six"))).ledger_transaction_id
    backs = [
        (await refund(db, charge_id, amount)).ledger_transaction_id for amount in (1, 3)
    ]
    found = await explained(db, charge_id)
    assert found.reversed_by == [Reversal(backs[0], 1), Reversal(backs[1], 3)]
    back = await explained(db, backs[1])
    assert (back.reverses_id, back.reversed_by) == (charge_id, [])
    assert back.draws == [Draw(grant_id, 3)]
    assert (back.line.amount, back.line.balance_after) == (3, 8)


async def test_of_many_reversals_the_first_hundred_are_named(db: Database) -> None:
    await give(db, 200)
    charge_id = (await book(db, charge(150, "much"))).ledger_transaction_id
    backs = [(await refund(db, charge_id, 1)).ledger_transaction_id for _ in range(101)]
    found = await explained(db, charge_id)
    assert [one.ledger_transaction_id for one in found.reversed_by] == backs[:100]


async def test_several_lines_of_one_transaction_are_told_as_their_sum(
    db: Database,
) -> None:
    await give(db, 10)
    charge_id = await moved(
        db,
        Transfer(ALICE_S, FEE, credits_(4)),
        Transfer(ALICE_S, TIP, credits_(1)),
        Transfer(FEE, ALICE_S, credits_(2)),
    )
    line = (await explained(db, charge_id)).line
    assert (line.version, line.amount, line.balance_after) == (4, -3, 7)


async def test_two_customers_see_their_own_side_and_what_is_the_house_s_with_them(
    db: Database,
) -> None:
    """Nobody learns who the other is, what he has or which lots he spends."""
    await give(db, 10)
    await give(db, 10, BOB)
    alice_s, bob_s = await newest_grant(db, ALICE), await newest_grant(db, BOB)
    both = await moved(
        db,
        Transfer(ALICE_S, BOB_S, credits_(4)),
        Transfer(BOB_S, FEE, credits_(5)),
        Transfer(ALICE_S, TIP, credits_(1)),
        Transfer(chart.promotions(), chart.breakage(), credits_(3)),
    )
    for_nobody = [
        Entry("expense:promotions", CREDIT, -3, None),
        Entry("revenue:breakage", CREDIT, 3, None),
    ]
    hers, his = await explained(db, both, ALICE), await explained(db, both, BOB)
    assert hers.entries == [
        Entry(ALICE_S.code, CREDIT, -4, 6),
        Entry(ALICE_S.code, CREDIT, -1, 5),
        Entry(TIP.code, CREDIT, 1, None),
        *for_nobody,
    ]
    assert his.entries == [
        Entry(BOB_S.code, CREDIT, 4, 14),
        Entry(BOB_S.code, CREDIT, -5, 9),
        Entry(FEE.code, CREDIT, 5, None),
        *for_nobody,
    ]
    assert hers.draws == [Draw(alice_s, -4), Draw(alice_s, -1)]
    (given, spent) = his.draws
    assert (given.amount, spent) == (4, Draw(bob_s, -5))
    assert (hers.line.amount, his.line.amount) == (-5, -1)
    assert encode_id("cus", BOB) not in str(hers)
    assert encode_id("cus", ALICE) not in str(his)


async def test_a_reversal_that_moved_two_customers_credits_is_told_to_each_as_his(
    db: Database,
) -> None:
    await give(db, 10)
    gift = Transfer(ALICE_S, BOB_S, credits_(4))
    given = await moved(db, gift)
    (lot,) = (await explained(db, given, BOB)).draws
    (source,) = (await explained(db, given, ALICE)).draws
    back = await moved(
        db,
        Transfer(BOB_S, ALICE_S, credits_(4), target=ToLots((Draw(source.lot_id, 4),))),
        kind=TransactionKind.REVERSAL,
        reverses_id=given,
    )
    assert (await explained(db, given, ALICE)).reversed_by == [Reversal(back, 4)]
    assert (await explained(db, given, BOB)).reversed_by == [Reversal(back, -4)]
    assert (await explained(db, back, ALICE)).draws == [Draw(source.lot_id, 4)]
    assert (await explained(db, back, BOB)).draws == [Draw(lot.lot_id, -4)]


async def test_what_moved_nothing_of_his_is_as_unknown_as_what_is_not_there(
    db: Database,
) -> None:
    await give(db, 10)
    charge_id = (await book(db, charge(6, "six"))).ledger_transaction_id
    words = set()
    for customer_id, transaction_id in ((BOB, charge_id), (ALICE, 12345)):
        with pytest.raises(UnknownTransaction, match=r"^no transaction") as refused:
            await explained(db, transaction_id, customer_id)
        words.add((refused.value.status, refused.value.detail))
    assert len(words) == 1, "or ids of others could be told from free ones"
