"""A payment authorization is claimed once, and its use is decided once."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from tallystick.claims.claim import (
    ClaimedMoney,
    Use,
    claim,
    decide,
    find_claim,
    overtake,
    prune_unsettled,
    take_over,
)
from tallystick.claims.errors import PaymentBoundElsewhere
from tallystick.claims.models import Claim, ClaimState
from tallystick.customers.wallets import create_customer
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.money import MicroCredits

_MONEY = ClaimedMoney(
    chain_id=84532,
    token=b"\x11" * 20,
    payer=b"\x22" * 20,
    nonce=b"\x33" * 32,
    value=1_000_000,
    valid_after=0,
    valid_before=1_000,
    binding=b"\x44" * 16,
)
_USE = Use(customer_id=999, feature="ai_analyst", charge=MicroCredits(5), wait_ms=2_000)
_WAIVED, _SETTLING = ClaimState.WAIVED, ClaimState.SETTLING


async def _claim(
    db: Database, money: ClaimedMoney = _MONEY, state: ClaimState = ClaimState.CLAIMED
) -> Claim | None:
    async def work(session: WriteSession) -> Claim | None:
        known = await query(session, "SELECT id FROM customer")
        customer = known[0]["id"] if known else await create_customer(session)
        return await claim(
            session, money, replace(_USE, customer_id=customer), state=state
        )

    return await db.write(work)


async def _claimed(db: Database, state: ClaimState = ClaimState.CLAIMED) -> int:
    made = await _claim(db, state=state)
    assert made is not None
    return made.id


async def _decide(
    db: Database, claim_id: int, state: ClaimState, hold_id: int | None = None
) -> bool:
    return await db.write(
        lambda session: decide(session, claim_id, state, hold_id=hold_id)
    )


async def _prune(db: Database, before: int, limit: int = 1000) -> int:
    return await db.write(
        lambda session: prune_unsettled(session, before_seconds=before, limit=limit)
    )


async def _find(db: Database, money: ClaimedMoney = _MONEY) -> Claim | None:
    async with db.read() as session:
        return await find_claim(session, money)


async def test_of_a_thousand_copies_one_gets_the_claim(db: Database) -> None:
    await _claim(db, replace(_MONEY, nonce=bytes(32)))
    copies = await asyncio.gather(*[_claim(db) for _ in range(1000)])
    (winner,) = [one for one in copies if one is not None]
    found = await _find(db)
    assert found is not None
    assert found.id == winner.id


async def test_a_claim_is_found_as_it_was_made(db: Database) -> None:
    assert await _find(db) is None
    made = await _claim(db)
    found = await _find(db)
    assert made is not None
    assert found is not None
    assert found.model_dump() == made.model_dump()
    assert (found.state, found.value, found.nonce) == ("claimed", 1_000_000, b"3" * 32)


@pytest.mark.parametrize(
    "other",
    [
        replace(_MONEY, chain_id=8453),
        replace(_MONEY, token=b"\x12" * 20),
        replace(_MONEY, payer=b"\x23" * 20),
        replace(_MONEY, nonce=b"\x34" * 32),
    ],
    ids=["chain", "token", "payer", "nonce"],
)
async def test_other_money_has_its_own_claim(db: Database, other: ClaimedMoney) -> None:
    assert await _claim(db) is not None
    assert await _find(db, other) is None
    assert await _claim(db, other) is not None


@pytest.mark.parametrize(
    "other",
    [
        replace(_MONEY, value=999_999),
        replace(_MONEY, valid_after=1),
        replace(_MONEY, valid_before=1_001),
        replace(_MONEY, binding=b"\x45" * 16),
    ],
    ids=["value", "valid_after", "valid_before", "binding"],
)
async def test_the_same_nonce_on_other_terms_is_refused(
    db: Database, other: ClaimedMoney
) -> None:
    await _claim(db)
    assert await _claim(db, other) is None
    with pytest.raises(PaymentBoundElsewhere) as refusal:
        await _find(db, other)
    assert refusal.value.status == 409


async def test_a_claim_is_decided_once(db: Database) -> None:
    claim_id = await _claimed(db)
    verdicts = await asyncio.gather(
        *[_decide(db, claim_id, _WAIVED, hold_id=5) for _ in range(10)],
        *[_decide(db, claim_id, _SETTLING) for _ in range(10)],
    )
    assert sum(verdicts) == 1
    found = await _find(db)
    assert found is not None
    expected = (_WAIVED, 5) if any(verdicts[:10]) else (_SETTLING, None)
    assert (found.state, found.hold_id) == expected


@pytest.mark.parametrize("state", [_WAIVED, _SETTLING])
async def test_what_was_decided_at_the_claim_stays_so(
    db: Database, state: ClaimState
) -> None:
    claim_id = await _claimed(db, state)
    assert not await _decide(db, claim_id, _WAIVED)
    assert not await _decide(db, claim_id, _SETTLING)


async def test_an_abandoned_claim_is_taken_over_by_one(
    db: Database, clock: OffsetClock
) -> None:
    claim_id = await _claimed(db)

    async def take() -> bool:
        return await db.write(
            lambda session: take_over(session, claim_id, wait_ms=60_000)
        )

    assert not await take()
    clock.advance(2.1)
    assert sum(await asyncio.gather(*[take() for _ in range(10)])) == 1
    clock.advance(59)
    assert not await take()


@pytest.mark.parametrize("state", [_WAIVED, _SETTLING])
async def test_a_decided_claim_is_not_taken_over(
    db: Database, clock: OffsetClock, state: ClaimState
) -> None:
    claim_id = await _claimed(db, state)
    clock.advance(60)
    assert not await db.write(lambda session: take_over(session, claim_id, wait_ms=1))


async def test_an_unknown_claim_is_not_decided(db: Database) -> None:
    assert not await _decide(db, 12345, _WAIVED)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_who_loses_the_decision_reads_how_it_was_decided(db: Database) -> None:
    """The session has seen the row undecided; it must not believe its memory."""

    async def work(session: WriteSession) -> str:
        seen = await find_claim(session, _MONEY)
        assert seen is not None
        assert await _decide(db, claim_id, _WAIVED)
        assert not await decide(session, claim_id, _SETTLING)
        assert seen.state == ClaimState.CLAIMED
        found = await find_claim(session, _MONEY)
        assert found is not None
        return found.state

    claim_id = await _claimed(db)
    assert await db.write(work) == _WAIVED


async def test_only_claims_that_were_never_settled_are_forgotten(db: Database) -> None:
    for n, state in enumerate(ClaimState):
        money = replace(_MONEY, nonce=bytes([n]) * 32)
        assert await _claim(db, money, state) is not None
    assert await _prune(db, 1_000) == 0
    assert await _prune(db, 1_001) == 2
    assert await _prune(db, 1 << 40) == 0
    async with db.read() as session:
        rows = await query(session, "SELECT state FROM claim ORDER BY nonce")
    assert [row["state"] for row in rows] == ["overtaken", "settling"]


async def test_a_settled_claim_answers_for_ever(db: Database) -> None:
    claim_id = await _claimed(db, _SETTLING)
    await _prune(db, 1 << 40)
    assert await _claim(db) is None
    found = await _find(db)
    assert found is not None
    assert found.id == claim_id


async def test_claims_are_forgotten_batch_by_batch(db: Database) -> None:
    for n in range(5):
        await _claim(db, replace(_MONEY, nonce=bytes([n]) * 32), _WAIVED)
    assert [await _prune(db, 2_000, limit=3) for _ in range(3)] == [3, 2, 0]


async def test_a_waived_claim_that_was_overtaken_is_kept(db: Database) -> None:
    claim_id = await _claimed(db, _WAIVED)
    assert await db.write(lambda session: overtake(session, claim_id))
    assert not await db.write(lambda session: overtake(session, claim_id))
    assert not await _decide(db, claim_id, _WAIVED)
    assert await _prune(db, 1 << 40) == 0


async def test_an_undecided_claim_can_be_overtaken_and_is_kept(db: Database) -> None:
    claim_id = await _claimed(db, ClaimState.CLAIMED)
    assert await db.write(lambda session: overtake(session, claim_id))
    assert not await _decide(db, claim_id, _WAIVED)
    assert not await _decide(db, claim_id, _SETTLING)
    assert await _prune(db, 1 << 40) == 0


async def test_a_claim_that_is_settling_cannot_be_overtaken(db: Database) -> None:
    claim_id = await _claimed(db, _SETTLING)
    assert not await db.write(lambda session: overtake(session, claim_id))
    found = await _find(db)
    assert found is not None
    assert found.state == _SETTLING


async def test_a_claim_needs_a_customer(db: Database) -> None:
    with pytest.raises(IntegrityError):
        await db.write(
            lambda session: claim(session, _MONEY, _USE, state=ClaimState.CLAIMED)
        )


async def test_the_database_refuses_a_second_claim_on_the_same_money(
    db: Database,
) -> None:
    claim_id = await _claimed(db)
    copy = f"""
        INSERT INTO claim SELECT {claim_id + 1}, chain_id, token, payer, nonce, value,
               valid_after, valid_before, binding, customer_id, state, charge, feature,
               hold_id, waiting_until_ms, claimed_at_ms, identifier FROM claim"""
    with pytest.raises(IntegrityError):
        async with db.writer.begin() as connection:
            await connection.execute(text(copy))


@pytest.mark.parametrize("name", ["token", "payer", "nonce", "binding"])
def test_money_is_named_in_canonical_bytes(name: str) -> None:
    for wrong in (b"", b"\x01" * 19, b"\x01" * 33):
        with pytest.raises(ValueError, match=name):
            replace(_MONEY, **{name: wrong})  # type: ignore[arg-type]
