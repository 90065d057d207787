"""What was taken can be given back, never more of it, and to where it came from."""

import asyncio
from dataclasses import replace

import pytest
from tests.credits.calls import capture, hold, release
from tests.ledger.bookings import (
    ALICE,
    BOB,
    audit,
    balance,
    book,
    buy,
    charge,
    fresh_key,
    give_lot,
    newest_grant,
    refund,
    remainders,
    void,
)

from tallystick.credits.errors import NothingToTakeBack, UnknownCharge, UnknownGrant
from tallystick.credits.grants import grants_of
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import CREDIT, USDC, Amount, InvalidAmount
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.balances import Balance, net_debits
from tallystick.ledger.errors import (
    AlreadyReversed,
    IdempotencyMismatch,
    ReversalTooLarge,
)
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posted, Posting, Transfer
from tallystick.ledger.reversals import reversed_so_far
from tallystick.ledger.statement import statement


async def _charged(db: Database, *lots: int) -> tuple[int, list[int]]:
    """A charge of all of several lots, and their ids in the order they were drawn."""
    ids = [await give_lot(db, amount) for amount in lots]
    posted = await book(db, charge(sum(lots), "all of it"))
    return posted.ledger_transaction_id, ids


async def test_a_refund_returns_to_the_lots_last_drawn_first(db: Database) -> None:
    charge_id, (first, second, third) = await _charged(db, 5, 5, 5)
    await refund(db, charge_id, 7)
    assert await remainders(db) == {third: 5, second: 2}
    await refund(db, charge_id, 1)
    assert await remainders(db) == {third: 5, second: 3}
    await refund(db, charge_id)
    assert await remainders(db) == {third: 5, second: 5, first: 5}
    async with db.read() as session:
        assert await net_debits(session, chart.feature_revenue("x")) == 0


async def test_refunds_together_never_exceed_their_charge(db: Database) -> None:
    charge_id, _ = await _charged(db, 10)
    await refund(db, charge_id, 6)
    with pytest.raises(
        ReversalTooLarge, match=r"^5 of ltx_.*reversed, 4 can"
    ) as refusal:
        await refund(db, charge_id, 5)
    assert refusal.value.members == {"left": 4}
    await refund(db, charge_id, 4)
    for amount in (1, None):
        with pytest.raises(AlreadyReversed, match=r"^ltx_.*was reversed"):
            await refund(db, charge_id, amount)
    assert (await balance(db)).posted == 10


def _moves(
    *amounts: int, customer_id: int = ALICE, back: bool = False
) -> list[Transfer]:
    sides = chart.customer_credits(customer_id), chart.feature_revenue("x")
    debit, credit = reversed(sides) if back else sides
    return [Transfer(debit, credit, Amount(one, CREDIT)) for one in amounts]


def _back(charge_id: int, *transfers: Transfer) -> Posting:
    kind = TransactionKind.REVERSAL
    return Posting(kind, fresh_key(), transfers, "sorry", reverses_id=charge_id)


async def test_a_reversal_in_several_parts_is_counted_as_a_whole(db: Database) -> None:
    """Two halves that are too much together, or each lot would be filled twice."""
    first, second = await give_lot(db, 5), await give_lot(db, 5)
    charged = await book(db, replace(charge(1, "a"), transfers=_moves(5, 5)))
    charge_id = charged.ledger_transaction_id
    with pytest.raises(ReversalTooLarge):
        await book(db, _back(charge_id, *_moves(6, 6, back=True)))
    await book(db, _back(charge_id, *_moves(3, 4, back=True)))
    assert await remainders(db) == {second: 5, first: 2}
    await book(db, _back(charge_id, *_moves(1, 1, 1, back=True)))
    assert await remainders(db) == {second: 5, first: 5}


async def test_what_two_customers_paid_goes_back_to_each_of_them(db: Database) -> None:
    hers, his = await give_lot(db, 5), await give_lot(db, 5, BOB)
    both = [*_moves(5), *_moves(4, customer_id=BOB)]
    charged = await book(db, replace(charge(1, "both"), transfers=both))
    charge_id = charged.ledger_transaction_id
    await book(db, _back(charge_id, *_moves(3, back=True)))
    await book(db, _back(charge_id, *_moves(2, customer_id=BOB, back=True)))
    assert await remainders(db) == {hers: 3, his: 1 + 2}


async def test_what_was_taken_back_is_counted_for_each_asset_by_itself(
    db: Database,
) -> None:
    bought = await buy(db, usdc=5, credits_=50)
    await void(db, await newest_grant(db))

    async def so_far(session: WriteSession) -> list[int]:
        original = bought.ledger_transaction_id
        return [
            await reversed_so_far(session, original, asset.code)
            for asset in (CREDIT, USDC)
        ]

    assert await db.write(so_far) == [50, 0]


async def test_parallel_refunds_never_exceed_their_charge(db: Database) -> None:
    charge_id, _ = await _charged(db, 6, 4)
    outcomes = await asyncio.gather(
        *[refund(db, charge_id, 3) for _ in range(20)], return_exceptions=True
    )
    assert sum(isinstance(one, Posted) for one in outcomes) == 3
    assert sum(isinstance(one, ReversalTooLarge) for one in outcomes) == 17
    assert (await balance(db)).posted == 9


@pytest.mark.parametrize("amount", [3, None], ids=["a part", "all"])
async def test_a_refund_that_comes_again_is_one_refund(
    db: Database, amount: int | None
) -> None:
    charge_id, _ = await _charged(db, 10)
    first = await refund(db, charge_id, amount, "sorry")
    again = await asyncio.gather(
        *[refund(db, charge_id, amount, "sorry") for _ in range(5)]
    )
    assert {one.ledger_transaction_id for one in again} == {first.ledger_transaction_id}
    assert all(one.replayed for one in again)
    assert (await balance(db)).posted == (amount or 10)


async def test_a_refund_of_the_rest_that_comes_again_is_one_refund(
    db: Database,
) -> None:
    """What is the rest has changed by then; what was asked for has not."""
    charge_id, _ = await _charged(db, 10)
    await refund(db, charge_id, 4)
    first = await refund(db, charge_id, None, "the rest")
    again = await refund(db, charge_id, None, "the rest")
    assert again == Posted(first.ledger_transaction_id, replayed=True)
    assert (await balance(db)).posted == 10


async def test_what_was_taken_back_is_told_to_the_customer(db: Database) -> None:
    charge_id, (grant_id,) = await _charged(db, 10)
    await refund(db, charge_id, 4)
    await void(db, grant_id)
    async with db.read() as session:
        lines = await statement(session, ALICE, limit=2)
    assert [(one.memo, one.amount) for one in lines] == [
        ("Grant taken back", -4),
        ("Refund", 4),
    ]


async def test_a_refund_s_key_stands_for_one_charge(db: Database) -> None:
    await give_lot(db, 10)
    one, other = [(await book(db, charge(2, key))) for key in ("a", "b")]
    await refund(db, one.ledger_transaction_id, None, "sorry")
    for amount in (2, None):
        with pytest.raises(IdempotencyMismatch):
            await refund(db, other.ledger_transaction_id, amount, "sorry")


async def test_a_captured_hold_is_refunded_like_any_charge(db: Database) -> None:
    first, second = [await give_lot(db, 5) for _ in range(2)]
    posted = await capture(db, await hold(db, 10), 8)
    await refund(db, posted.ledger_transaction_id, 4)
    assert await remainders(db) == {second: 5, first: 1}


async def test_only_a_charge_is_refunded(db: Database) -> None:
    """Neither is what was taken back, though it looks like a charge."""
    charge_id, (grant_id,) = await _charged(db, 5)
    given_back = await refund(db, charge_id, 2)
    taken_back = await void(db, grant_id)
    for other in (
        given_back.ledger_transaction_id,
        taken_back.ledger_transaction_id,
        12345,
    ):
        with pytest.raises(UnknownCharge, match="ltx_"):
            await refund(db, other, 1)
    moved = Transfer(chart.promotions(), chart.breakage(), Amount(1, CREDIT))
    key = digest16(b"of the house")
    posted = await book(db, Posting(TransactionKind.CHARGE, key, [moved], "moved"))
    named = encode_id("ltx", posted.ledger_transaction_id)
    with pytest.raises(UnknownCharge, match=named):
        await refund(db, posted.ledger_transaction_id, 1)
    with pytest.raises(InvalidAmount):
        await refund(db, charge_id, 0)


async def test_a_void_takes_back_what_is_left_and_where_it_came_from(
    db: Database,
) -> None:
    mistaken = await give_lot(db, 10, priority=-1)
    await give_lot(db, 3)
    await book(db, charge(4, "a"))
    assert not (await void(db, mistaken, "oops")).replayed
    assert (await void(db, mistaken, "oops")).replayed
    assert await balance(db) == Balance(3, 0)
    async with db.read() as session:
        assert await net_debits(session, chart.promotions()) == 7
    with pytest.raises(NothingToTakeBack):
        await void(db, mistaken)


async def test_the_void_of_a_bought_grant_leaves_the_money_where_it_is(
    db: Database,
) -> None:
    await buy(db, 1_000_000, 10)
    async with db.read() as session:
        (grant,) = await grants_of(session, ALICE, limit=9)
    await void(db, grant.id)
    async with db.read() as session:
        assert await net_debits(session, chart.exchange(CREDIT)) == 0
        assert (await grants_of(session, ALICE, limit=9))[0].remaining == 0
    assert await balance(db) == Balance(0, 0)


async def test_credits_that_do_not_count_yet_can_be_taken_back(db: Database) -> None:
    later = await give_lot(db, 10, effective_at_ms=db.clock.now_ms() + 3_600_000)
    await void(db, later)
    assert await balance(db) == Balance(0, 0)


async def test_what_a_running_call_holds_is_not_taken_from_it(db: Database) -> None:
    grant_id = await give_lot(db, 10)
    kept, given_back = await hold(db, 4), await hold(db, 3)
    await void(db, grant_id)
    assert await balance(db) == Balance(7, 7)
    await capture(db, kept)
    with pytest.raises(NothingToTakeBack, match=r"^nothing is left of grt_"):
        await void(db, grant_id)
    await release(db, given_back)
    await void(db, grant_id)
    assert await balance(db) == Balance(0, 0)


async def test_what_has_expired_is_breakage_and_not_taken_back(
    db: Database, clock: OffsetClock
) -> None:
    grant_id = await give_lot(db, 10, expires_at_ms=db.clock.now_ms() + 1_000)
    clock.advance(1)
    with pytest.raises(NothingToTakeBack):
        await void(db, grant_id)
    assert (await balance(db)).available == 0


async def test_a_void_and_charges_at_once_share_what_there_is(db: Database) -> None:
    grant_id = await give_lot(db, 20)
    outcomes = await asyncio.gather(
        *[book(db, charge(1, f"charge {n}")) for n in range(10)],
        void(db, grant_id),
        *[book(db, charge(1, f"more {n}")) for n in range(10)],
        return_exceptions=True,
    )
    assert isinstance(outcomes[10], Posted | NothingToTakeBack)
    assert (await balance(db)).posted == 0
    assert await audit(db) == []


async def test_an_unknown_grant_is_named_so(db: Database) -> None:
    with pytest.raises(UnknownGrant, match="grt_"):
        await void(db, 12345)
