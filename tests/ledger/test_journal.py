"""What the journal promises, on every database."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy.exc import DBAPIError
from tests.ledger.bookings import (
    ALICE,
    BOB,
    balance,
    book,
    buy,
    charge,
    give,
    newest_grant,
    run,
)

from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.money import (
    AMOUNT_LIMIT,
    CREDIT,
    USDC,
    Amount,
    InvalidAmount,
)
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.accounts import ensure_accounts
from tallystick.ledger.balances import net_debits
from tallystick.ledger.errors import (
    AlreadyReversed,
    IdempotencyMismatch,
    InsufficientCredits,
)
from tallystick.ledger.journal import post
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posted, Posting, Transfer


def _reversal(original: Posted, amount: int, key: str) -> Posting:
    transfer = Transfer(
        chart.feature_revenue("x"),
        chart.customer_credits(ALICE),
        Amount(amount, CREDIT),
    )
    return Posting(
        TransactionKind.REVERSAL,
        digest16(key.encode()),
        [transfer],
        "wrongly charged",
        reverses_id=original.ledger_transaction_id,
    )


async def test_a_posting_moves_what_it_says(db: Database) -> None:
    await give(db, 10)
    await book(db, charge(3, "a"))
    assert (await balance(db)).posted == 7
    async with db.read() as session:
        assert await net_debits(session, chart.feature_revenue("x")) == -3
        assert await net_debits(session, chart.promotions()) == 10
        assert await net_debits(session, chart.feature_revenue("unheard of")) == 0


async def test_only_a_customer_s_side_of_a_transfer_remembers_lots(
    db: Database,
) -> None:
    await buy(db, 1, 10)
    async with db.read() as session:
        found = await query(
            session, "SELECT lot_id, lots FROM transfer ORDER BY position"
        )
    money, credits_ = [(row["lot_id"], row["lots"]) for row in found]
    assert money == (None, None)
    assert credits_ == (await newest_grant(db), None)


async def test_an_account_that_nothing_passed_through_holds_nothing(
    db: Database,
) -> None:
    unused = chart.feature_revenue("unused")
    await db.write(lambda session: ensure_accounts(session, [unused]))
    async with db.read() as session:
        assert await net_debits(session, unused) == 0


async def test_one_posting_may_pass_through_a_customer_several_times(
    db: Database,
) -> None:
    await give(db, 10)
    spend, regain = charge(10, "both").transfers[0], None
    regain = Transfer(spend.credit, spend.debit, Amount(4, CREDIT))
    posting = replace(charge(1, "both"), transfers=[spend, regain, regain])
    await book(db, posting)
    assert (await balance(db)).posted == 8


async def test_money_passes_from_customer_to_customer(db: Database) -> None:
    await give(db, 10)
    moved = Transfer(
        chart.customer_credits(ALICE), chart.customer_credits(BOB), Amount(4, CREDIT)
    )
    key = digest16(b"move")
    await book(db, Posting(TransactionKind.CHARGE, key, [moved], "moved"))
    assert ((await balance(db)).posted, (await balance(db, BOB)).posted) == (6, 4)


async def test_opposite_transfers_in_parallel_both_arrive(db: Database) -> None:
    # Enough for all of theirs, in whatever order they come.
    await give(db, 200, ALICE)
    await give(db, 200, BOB)
    alice, bob = chart.customer_credits(ALICE), chart.customer_credits(BOB)
    postings = []
    for n in range(20):
        debit, credit = (alice, bob) if n % 2 else (bob, alice)
        moved = Transfer(debit, credit, Amount(n + 1, CREDIT))
        key = digest16(b"move %d" % n)
        postings.append(Posting(TransactionKind.CHARGE, key, [moved], "moved"))
    await asyncio.gather(*[book(db, one) for one in postings])
    assert (await balance(db, ALICE)).posted == 190
    assert (await balance(db, BOB)).posted == 210


async def test_the_same_key_posts_once_however_often_it_comes(db: Database) -> None:
    await give(db, 10)
    first = await book(db, charge(4, "a"))
    again = await asyncio.gather(*[book(db, charge(4, "a")) for _ in range(20)])
    assert {one.ledger_transaction_id for one in again} == {first.ledger_transaction_id}
    assert all(one.replayed for one in again)
    assert (await balance(db)).posted == 6


async def test_parallel_first_uses_of_one_key_post_once(db: Database) -> None:
    await give(db, 10)
    outcomes = await asyncio.gather(*[book(db, charge(4, "a")) for _ in range(20)])
    assert sum(not one.replayed for one in outcomes) == 1
    assert len({one.ledger_transaction_id for one in outcomes}) == 1
    assert (await balance(db)).posted == 6


@pytest.mark.parametrize(
    "other",
    [
        charge(5, "a"),
        charge(4, "a", BOB),
        replace(charge(4, "a"), reference="y"),
        replace(charge(4, "a"), kind=TransactionKind.GRANT),
        replace(charge(4, "a"), transfers=[*charge(4, "a").transfers] * 2),
    ],
    ids=["amount", "customer", "reference", "kind", "transfers"],
)
async def test_a_key_cannot_stand_for_other_input(db: Database, other: Posting) -> None:
    await give(db, 10)
    await book(db, charge(4, "a"))
    with pytest.raises(IdempotencyMismatch, match=r"^this idempotency key"):
        await book(db, other)
    assert (await balance(db)).posted == 6


async def test_a_retry_at_a_later_time_is_the_same_request(db: Database) -> None:
    await give(db, 10)
    await book(db, replace(charge(4, "a"), occurred_at_ms=0))
    assert (await book(db, replace(charge(4, "a"), occurred_at_ms=9))).replayed


async def test_parallel_charges_never_overdraw(db: Database) -> None:
    await give(db, 10)
    charges = [book(db, charge(3, f"charge {n}")) for n in range(64)]
    outcomes = await asyncio.gather(*charges, return_exceptions=True)
    assert sum(isinstance(one, Posted) for one in outcomes) == 3
    assert sum(isinstance(one, InsufficientCredits) for one in outcomes) == 61
    assert (await balance(db)).posted == 1


async def test_parallel_first_grants_open_one_account(db: Database) -> None:
    await asyncio.gather(*[give(db, 1) for _ in range(20)])
    assert (await balance(db)).posted == 20


async def test_a_balance_can_be_spent_to_its_last_unit_and_no_further(
    db: Database,
) -> None:
    await give(db, 10)
    with pytest.raises(InsufficientCredits):
        await book(db, charge(11, "one too many"))
    await book(db, charge(10, "all"))
    with pytest.raises(InsufficientCredits):
        await book(db, charge(1, "one more"))


async def test_a_refused_charge_leaves_its_key_unused(db: Database) -> None:
    with pytest.raises(InsufficientCredits) as refusal:
        await book(db, charge(3, "too much"))
    assert refusal.value.required == 3
    await give(db, 10)
    assert not (await book(db, charge(3, "too much"))).replayed


async def test_a_refusal_that_is_swallowed_cannot_be_committed(db: Database) -> None:
    async def swallow(session: WriteSession) -> None:
        with pytest.raises(InsufficientCredits):
            await post(session, charge(3, "too much"))

    with pytest.raises(RuntimeError, match=r"^a refused posting must roll back"):
        await db.write(swallow)
    await give(db, 10)
    assert not (await book(db, charge(3, "too much"))).replayed


async def test_a_balance_stays_countable(db: Database) -> None:
    await give(db, AMOUNT_LIMIT - 1)
    with pytest.raises(InvalidAmount):
        await give(db, 1)
    assert (await balance(db)).posted == AMOUNT_LIMIT - 1


async def test_a_transaction_is_reversed_once(db: Database) -> None:
    await give(db, 10)
    original = await book(db, charge(4, "a"))
    first = await book(db, _reversal(original, 4, "back"))
    again = await book(db, _reversal(original, 4, "back"))
    assert again == Posted(first.ledger_transaction_id, replayed=True)
    with pytest.raises(AlreadyReversed):
        await book(db, _reversal(original, 4, "back by another"))
    assert (await balance(db)).posted == 10


async def test_a_key_that_reversed_one_transaction_reverses_no_other(
    db: Database,
) -> None:
    await give(db, 10)
    one, other = [await book(db, charge(4, key)) for key in ("a", "b")]
    await book(db, _reversal(one, 4, "back"))
    with pytest.raises(IdempotencyMismatch):
        await book(db, _reversal(other, 4, "back"))
    assert (await balance(db)).posted == 6


async def test_parallel_reversals_by_different_keys_take_back_once(
    db: Database,
) -> None:
    await give(db, 10)
    original = await book(db, charge(4, "a"))
    keys = [f"back {n}" for n in range(10)]
    outcomes = await asyncio.gather(
        *[book(db, _reversal(original, 4, key)) for key in keys],
        return_exceptions=True,
    )
    assert sum(isinstance(one, Posted) for one in outcomes) == 1
    assert sum(isinstance(one, AlreadyReversed) for one in outcomes) == 9
    assert (await balance(db)).posted == 10


def test_a_transfer_moves_one_asset_between_two_accounts() -> None:
    alice = chart.customer_credits(ALICE)
    with pytest.raises(ValueError, match="one asset"):
        Transfer(chart.exchange(USDC), alice, Amount(1, CREDIT))
    with pytest.raises(ValueError, match="one asset"):
        Transfer(chart.promotions(), alice, Amount(1, USDC))
    with pytest.raises(ValueError, match="two accounts"):
        Transfer(alice, alice, Amount(1, CREDIT))


def test_a_posting_that_makes_no_sense_is_not_built() -> None:
    sound = charge(1, "a")
    with pytest.raises(ValueError, match=r"^an idempotency key is 16 bytes"):
        replace(sound, idempotency_key=b"short")
    with pytest.raises(ValueError, match=r"^nothing to book"):
        replace(sound, transfers=[])
    with pytest.raises(ValueError, match="names a transaction"):
        replace(sound, kind=TransactionKind.REVERSAL)
    with pytest.raises(ValueError, match="names a transaction"):
        replace(sound, reverses_id=1)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE transfer SET amount = amount + 1",
        "DELETE FROM transfer",
        "UPDATE ledger_transaction SET reference = 'other'",
        "DELETE FROM ledger_transaction",
    ],
)
async def test_what_is_posted_cannot_be_changed(db: Database, tampering: str) -> None:
    await give(db, 10)
    with pytest.raises(DBAPIError, match="append-only"):
        await run(db, tampering)


@pytest.mark.parametrize(
    ("tampering", "constraint"),
    [
        ("balance = -1", "never_overdrawn"),
        ("held = 11", "never_overdrawn"),
        ("held = -1", "held_not_negative"),
        (f"balance = {AMOUNT_LIMIT}", "balance_limit"),
    ],
)
async def test_the_database_itself_refuses_an_impossible_balance(
    db: Database, tampering: str, constraint: str
) -> None:
    await give(db, 10)
    with pytest.raises(DBAPIError, match=constraint):
        await run(db, f"UPDATE account_balance SET {tampering}")
