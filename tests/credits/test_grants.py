"""Credits are given once, and what they cost is known."""

import asyncio
from dataclasses import replace

import pytest
from tests.ledger.bookings import (
    ALICE,
    BOB,
    POT,
    balance,
    book,
    charge,
    give_lot,
    remainders,
)

from tallystick.credits.grants import (
    GrantView,
    PaidGrant,
    grant_free,
    grant_paid,
    grant_promotional,
    grants_of,
)
from tallystick.credits.models import GrantCategory
from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.money import (
    CREDIT,
    USDC,
    Amount,
    InvalidAmount,
    MicroCredits,
)
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.ledger.errors import IdempotencyMismatch
from tallystick.ledger.lotted import PLAIN, LotTerms
from tallystick.ledger.posting import Posted
from tallystick.ledger.statement import statement

_DOLLAR = Amount(1_000_000, USDC)
_GRANT = PaidGrant(
    ALICE,
    MicroCredits(10_000_000),
    _DOLLAR,
    POT,
    digest16(b"payment"),
    "topup:1",
    "A pack",
)


async def _buy(db: Database, grant: PaidGrant = _GRANT) -> Posted:
    return await db.write(lambda session: grant_paid(session, grant))


async def _give(db: Database, amount: int, key: bytes = b"gift") -> Posted:
    return await db.write(
        lambda session: grant_promotional(
            session,
            ALICE,
            MicroCredits(amount),
            idempotency_key=digest16(key),
            reference="welcome",
            memo="Welcome",
        )
    )


async def _grants(db: Database) -> list[dict[str, object]]:
    async with db.read() as session:
        rows = await query(session, "SELECT * FROM credit_grant ORDER BY id")
    return [dict(row) for row in rows]


async def test_a_payment_becomes_credits_and_the_money_is_ours(db: Database) -> None:
    posted = await _buy(db)
    assert (await balance(db)).available == 10_000_000
    async with db.read() as session:
        assert await net_debits(session, POT) == 1_000_000
        assert await net_debits(session, chart.exchange(USDC)) == -1_000_000
        assert await net_debits(session, chart.exchange(CREDIT)) == 10_000_000
    (grant,) = await _grants(db)
    assert grant["category"] == "paid"
    assert (grant["cost_amount"], grant["cost_asset"]) == (1_000_000, "USDC")
    assert grant["ledger_transaction_id"] == posted.ledger_transaction_id


async def test_a_payment_is_told_to_the_customer_as_it_was_sold(db: Database) -> None:
    await _buy(db)
    async with db.read() as session:
        (line,) = await statement(session, ALICE, limit=9)
        (grant,) = await grants_of(session, ALICE, limit=9)
    assert (line.kind, line.memo, line.amount) == ("topup", "A pack", 10_000_000)
    assert grant == GrantView(
        grant.id,
        category="paid",
        amount=MicroCredits(10_000_000),
        remaining=MicroCredits(10_000_000),
        granted_at_ms=grant.granted_at_ms,
        effective_at_ms=line.posted_at_ms,
        expires_at_ms=None,
    )
    assert 0 <= grant.granted_at_ms - line.posted_at_ms < 60_000


async def test_bought_credits_burn_when_their_priority_says(db: Database) -> None:
    gift = await give_lot(db, 5)
    await _buy(db, replace(_GRANT, credits=MicroCredits(7), priority=-1))
    await book(db, charge(7, "the bought ones"))
    assert await remainders(db) == {gift: 5}


async def test_a_gift_costs_nothing_and_is_an_expense(db: Database) -> None:
    await _give(db, 500)
    async with db.read() as session:
        assert await net_debits(session, chart.promotions()) == 500
    (grant,) = await _grants(db)
    assert (grant["category"], grant["cost_amount"]) == ("promotional", None)


async def test_a_replayed_payment_is_credited_once(db: Database) -> None:
    outcomes = await asyncio.gather(*[_buy(db) for _ in range(50)])
    assert sum(not one.replayed for one in outcomes) == 1
    assert len({one.ledger_transaction_id for one in outcomes}) == 1
    assert (await balance(db)).posted == 10_000_000
    assert len(await _grants(db)) == 1


async def test_a_replayed_gift_is_given_once(db: Database) -> None:
    assert not (await _give(db, 500)).replayed
    assert (await _give(db, 500)).replayed
    assert (await balance(db)).posted == 500
    assert len(await _grants(db)) == 1


@pytest.mark.parametrize(
    "other",
    [
        replace(_GRANT, credits=MicroCredits(11)),
        replace(_GRANT, customer_id=BOB),
        replace(_GRANT, cost=Amount(2, USDC)),
        replace(_GRANT, reference="topup:2"),
    ],
    ids=["credits", "customer", "cost", "reference"],
)
async def test_a_payment_cannot_be_credited_again_as_another(
    db: Database, other: PaidGrant
) -> None:
    await _buy(db)
    with pytest.raises(IdempotencyMismatch):
        await _buy(db, other)
    assert (await balance(db)).posted == 10_000_000
    assert (await balance(db, BOB)).posted == 0


async def test_a_gift_cannot_be_given_again_as_another_kind(db: Database) -> None:
    key = digest16(b"a gift")

    async def gift(category: GrantCategory) -> Posted:
        return await db.write(
            lambda session: grant_free(
                session,
                ALICE,
                MicroCredits(5),
                category=category,
                idempotency_key=key,
                reference="gift",
                memo="Welcome",
            )
        )

    first = await gift(GrantCategory.PROMOTIONAL)
    with pytest.raises(IdempotencyMismatch):
        await gift(GrantCategory.TRIAL)
    again = await gift(GrantCategory.PROMOTIONAL)
    assert again == replace(first, replayed=True)


async def test_a_payment_too_small_for_a_credit_is_still_booked(db: Database) -> None:
    dust = replace(_GRANT, credits=MicroCredits(0), cost=Amount(1, USDC))
    await _buy(db, dust)
    assert (await _buy(db, dust)).replayed
    assert (await balance(db)).posted == 0
    assert await _grants(db) == []
    async with db.read() as session:
        assert await net_debits(session, POT) == 1


@pytest.mark.parametrize("amount", [0, -1])
async def test_nothing_and_less_than_nothing_cannot_be_given(
    db: Database, amount: int
) -> None:
    with pytest.raises(InvalidAmount):
        await _give(db, amount)
    assert await _grants(db) == []


async def test_a_negative_grant_is_refused(db: Database) -> None:
    with pytest.raises(InvalidAmount):
        await _buy(db, replace(_GRANT, credits=MicroCredits(-1)))


async def test_money_is_taken_in_its_own_asset(db: Database) -> None:
    with pytest.raises(ValueError, match="one asset"):
        await _buy(db, replace(_GRANT, cost=Amount(1, CREDIT)))


async def test_the_time_of_the_payment_is_kept(db: Database) -> None:
    await _buy(db, replace(_GRANT, occurred_at_ms=0))
    async with db.read() as session:
        (row,) = await query(session, "SELECT * FROM ledger_transaction")
    assert row["occurred_at_ms"] == 0
    assert row["posted_at_ms"] > 0


@pytest.mark.parametrize(
    ("category", "terms"),
    [
        (GrantCategory.PAID, PLAIN),
        (GrantCategory.PROMOTIONAL, LotTerms(bought=True)),
    ],
    ids=["category", "terms"],
)
async def test_what_cost_nothing_is_never_given_as_bought(
    db: Database, category: GrantCategory, terms: LotTerms
) -> None:
    async def give(session: WriteSession) -> Posted:
        return await grant_free(
            session,
            ALICE,
            MicroCredits(5),
            category=category,
            terms=terms,
            idempotency_key=digest16(b"gift"),
            reference="welcome",
            memo="Welcome",
        )

    with pytest.raises(ValueError, match=r"^what was paid for says what it cost"):
        await db.write(give)
    assert await _grants(db) == []
