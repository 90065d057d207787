"""A payment that vanishes takes its credits with it, and what was spent of them is owed."""

from collections.abc import Iterable

import pytest
from tests.credits.calls import capture, hold, release
from tests.ledger.bookings import (
    ALICE,
    BOB,
    POT,
    balance,
    book,
    buy,
    charge,
    fresh_key,
    give,
    give_lot,
    newest_grant,
    refund,
    remainders,
    void,
)

from tallystick.credits import debts
from tallystick.kernel.db import Database, query
from tallystick.kernel.money import CREDIT, USDC
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.ledger.chart import AccountName
from tallystick.ledger.errors import AlreadyReversed
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posted

CAROL = 9


async def claw_back(
    db: Database, original: Posted, key: str | None = None
) -> Posted | None:
    return await db.write(
        lambda session: debts.claw_back(
            session,
            original.ledger_transaction_id,
            idempotency_key=digest16(key.encode()) if key else fresh_key(),
            reference="topup:top_1",
            memo="It vanished",
        )
    )


async def collect(db: Database, lots: Iterable[int], customer_id: int = ALICE) -> int:
    return await db.write(lambda session: debts.collect(session, customer_id, lots))


async def collect_from(db: Database, *granted: Posted, customer_id: int = ALICE) -> int:
    ids = [one.ledger_transaction_id for one in granted]
    return await db.write(lambda session: debts.collect_from(session, customer_id, ids))


async def collect_due(db: Database) -> int:
    return await db.write(debts.collect_due)


async def owed(db: Database, customer_id: int = ALICE) -> int:
    async with db.read() as session:
        told = await debts.owed_by(session, customer_id)
        booked = await net_debits(session, chart.receivable(customer_id))
    assert told == booked
    return told


async def stands(db: Database, account: AccountName) -> int:
    async with db.read() as session:
        return await net_debits(session, account)


async def test_nothing_is_owed_of_a_payment_that_was_not_touched(db: Database) -> None:
    bought = await buy(db, 1_000_000, 100)
    assert await claw_back(db, bought) is not None
    assert await owed(db) == 0
    assert (await balance(db)).posted == 0
    assert await remainders(db) == {}
    assert await stands(db, POT) == 0, "the money is not there"


async def test_what_was_spent_or_is_held_is_owed_and_the_rest_goes_at_once(
    db: Database,
) -> None:
    bought = await buy(db, 1_000_000, 100)
    await book(db, charge(30, "a call"))
    await hold(db, 20)
    await claw_back(db, bought)
    assert await owed(db) == 50
    funds = await balance(db)
    assert (funds.posted, funds.held, funds.available) == (20, 20, 0)
    assert await stands(db, POT) == 0


async def test_only_the_vanished_payments_lot_is_taken(db: Database) -> None:
    bought = await buy(db, 1_000_000, 100, priority=-1)
    await give(db, 40)
    await book(db, charge(70, "a call"))
    await claw_back(db, bought)
    assert await remainders(db) == {await newest_grant(db): 40}
    assert await owed(db) == 70


async def test_a_gift_that_is_clawed_back_returns_to_who_gave_it(db: Database) -> None:
    given = await give(db, 10)
    await book(db, charge(4, "a call"))
    await claw_back(db, given)
    assert await stands(db, chart.promotions()) == 0
    assert await owed(db) == 4


async def test_two_vanished_payments_make_one_debt(db: Database) -> None:
    first = await buy(db, 1_000_000, 10)
    second = await buy(db, 1_000_000, 10)
    await book(db, charge(15, "a call"))
    await claw_back(db, first)
    await claw_back(db, second)
    assert await owed(db) == 15
    assert await owed(db, BOB) == 0


async def test_a_payment_vanishes_once_for_each_key(db: Database) -> None:
    bought = await buy(db, 1_000_000, 10)
    await book(db, charge(3, "a call"))
    first = await claw_back(db, bought, "gone")
    assert first is not None
    again = await claw_back(db, bought, "gone")
    assert again is not None
    assert again.ledger_transaction_id == first.ledger_transaction_id
    with pytest.raises(AlreadyReversed):
        await claw_back(db, bought, "gone otherwise")
    assert await owed(db) == 3


async def test_what_was_voided_before_is_not_taken_twice(db: Database) -> None:
    given = await give(db, 10)
    lot = await newest_grant(db)
    await book(db, charge(4, "a call"))
    await void(db, lot)
    await claw_back(db, given)
    assert await owed(db) == 4
    assert (await balance(db)).posted == 0
    assert await stands(db, chart.promotions()) == 0


async def test_nothing_is_taken_back_of_what_is_all_given_back(db: Database) -> None:
    given = await give(db, 10)
    await void(db, await newest_grant(db))
    assert await claw_back(db, given) is None
    assert await owed(db) == 0


async def test_what_comes_back_after_a_part_was_voided_is_taken_only_once(
    db: Database,
) -> None:
    given = await give(db, 10)
    lot = await newest_grant(db)
    called = await book(db, charge(6, "a call"))
    await void(db, lot)
    await refund(db, called.ledger_transaction_id, 5)
    await claw_back(db, given)
    assert await owed(db) == 1
    assert await remainders(db) == {}


async def test_what_is_clawed_back_tells_why(db: Database) -> None:
    bought = await buy(db, 1_000_000, 10)
    await book(db, charge(3, "a call"))
    posted = await claw_back(db, bought)
    assert posted is not None
    async with db.read() as session:
        (row,) = await query(
            session,
            "SELECT kind, reference, memo FROM ledger_transaction WHERE id = :id",
            id=posted.ledger_transaction_id,
        )
        sides = await query(
            session,
            "SELECT position, amount, lot_id FROM transfer"
            " WHERE ledger_transaction_id = :id ORDER BY position",
            id=posted.ledger_transaction_id,
        )
    assert tuple(row.values()) == ("reversal", "topup:top_1", "It vanished")
    assert [one["amount"] for one in sides][-2:] == [7, 3]


async def test_a_payments_bought_credits_and_money_go_back_to_where_they_were(
    db: Database,
) -> None:
    await buy(db, 500_000, 5)
    before = [await stands(db, one) for one in _HOUSE]
    bought = await buy(db, 1_000_000, 10)
    await book(db, charge(12, "a call"))
    await claw_back(db, bought)
    assert [await stands(db, one) for one in _HOUSE] == before
    assert await owed(db) == 7


_HOUSE = (POT, chart.exchange(USDC), chart.exchange(CREDIT))


async def test_a_debt_is_collected_up_to_what_is_owed_and_no_more(db: Database) -> None:
    await claw_back(db, await _spent(db, 10, 6))
    lot = await give_lot(db, 4)
    assert await collect(db, [lot]) == 4
    assert await owed(db) == 2
    lots = [await give_lot(db, 1), await give_lot(db, 9), await give_lot(db, 9)]
    assert await collect(db, lots) == 2
    assert await owed(db) == 0
    assert await remainders(db) == {lots[1]: 8, lots[2]: 9}
    assert await collect(db, lots) == 0


async def test_nothing_is_collected_of_who_owes_nothing(db: Database) -> None:
    await claw_back(db, await _spent(db, 10, 6))
    lot = await give_lot(db, 5, BOB)
    assert await collect(db, [lot], BOB) == 0
    assert await collect_from(db, customer_id=BOB) == 0
    assert await remainders(db) == {lot: 5}
    assert await owed(db) == 6


async def test_what_is_collected_tells_from_which_grant(db: Database) -> None:
    await claw_back(db, await _spent(db, 10, 6))
    lot = await give_lot(db, 4)
    await collect(db, [lot])
    async with db.read() as session:
        (row,) = await query(
            session,
            "SELECT reference, memo, lot_id, amount FROM ledger_transaction"
            " JOIN transfer ON ledger_transaction_id = ledger_transaction.id"
            " WHERE kind = :kind",
            kind=TransactionKind.COLLECTION.value,
        )
    assert tuple(row.values()) == (
        f"grant:{lot}",
        "Owed for a payment that vanished",
        lot,
        4,
    )


async def test_the_same_payment_that_arrives_after_all_pays_its_debt(
    db: Database,
) -> None:
    await claw_back(db, await _spent(db, 10, 6))
    bought, bonus = await buy(db, 1_000_000, 10), await give(db, 3)
    assert await collect_from(db, bought, bonus) == 6
    assert await owed(db) == 0
    assert (await balance(db)).posted == 7


async def test_both_grants_of_a_payment_pay_where_one_is_too_small(
    db: Database,
) -> None:
    await claw_back(db, await _spent(db, 10, 9))
    bought, bonus = await buy(db, 1_000_000, 5), await give(db, 3)
    untouched = await give_lot(db, 50)
    assert await collect_from(db, bought, bonus) == 8
    assert await owed(db) == 1
    assert await remainders(db) == {untouched: 50}


async def test_credits_that_come_back_to_a_vanished_payment_pay_its_debt(
    db: Database,
) -> None:
    bought = await buy(db, 1_000_000, 10)
    called = await book(db, charge(2, "a call"))
    placed, captured = await hold(db, 3), await hold(db, 4)
    kept = await give_lot(db, 20)
    assert await collect_due(db) == 0, "nobody owes anything"
    await claw_back(db, bought)
    assert await owed(db) == 9
    assert await collect_due(db) == 0, "nothing has come back"
    await refund(db, called.ledger_transaction_id)
    await release(db, placed)
    await capture(db, captured, 3)
    assert await collect_due(db) == 6
    assert await owed(db) == 3
    assert await collect_due(db) == 0
    assert await remainders(db) == {kept: 20}, "what he bought otherwise is his"


async def test_of_several_debtors_each_pays_his_own(db: Database) -> None:
    charges = {}
    for customer_id in (ALICE, BOB, CAROL):
        bought = await buy(db, 1_000_000, 10, customer_id)
        posted = await book(db, charge(5, f"{customer_id}", customer_id))
        charges[customer_id] = posted.ledger_transaction_id
        if customer_id != CAROL:
            await claw_back(db, bought)
    await refund(db, charges[ALICE], 1)
    await refund(db, charges[BOB], 2)
    await refund(db, charges[CAROL], 3)
    assert await collect_due(db) == 3
    assert [await owed(db, one) for one in charges] == [4, 3, 0]
    assert (await balance(db, CAROL)).posted == 8


async def test_a_grant_of_which_a_part_was_voided_is_not_collected_from(
    db: Database,
) -> None:
    await claw_back(db, await _spent(db, 10, 6))
    await give(db, 8)
    lot = await newest_grant(db)
    called = await book(db, charge(5, "another call"))
    await void(db, lot)
    await refund(db, called.ledger_transaction_id)
    assert await collect_due(db) == 0
    assert await remainders(db) == {lot: 5}


async def test_who_owes_cannot_spend_below_nothing(db: Database) -> None:
    await claw_back(db, await _spent(db, 10, 6))
    assert await owed(db) == 6
    funds = await balance(db)
    assert (funds.posted, funds.available) == (0, 0)


async def _spent(db: Database, amount: int, spent: int) -> Posted:
    """A payment of which so much was spent."""
    bought = await buy(db, 1_000_000, amount)
    await book(db, charge(spent, f"spent {fresh_key().hex()}"))
    return bought
