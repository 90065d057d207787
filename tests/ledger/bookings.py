"""Small words for the tests of the money core: give, charge, balance, audit."""

import itertools

from sqlalchemy import text

from tallystick.credits import refunds
from tallystick.credits.audit import audit_credits
from tallystick.credits.grants import (
    PaidGrant,
    grant_free,
    grant_paid,
    grant_promotional,
    grants_of,
)
from tallystick.credits.models import GrantCategory
from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.money import CREDIT, USDC, Amount, MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.audit import audit_ledger
from tallystick.ledger.balances import Balance, customer_balance
from tallystick.ledger.findings import Finding
from tallystick.ledger.journal import post
from tallystick.ledger.lotted import LotTerms
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posted, Posting, Transfer

ALICE, BOB = 7, 8
POT = chart.chain_assets("eip155:84532", bytes(20))
_COUNTER = itertools.count()


def fresh_key() -> bytes:
    return digest16(b"fresh", b"%d" % next(_COUNTER))


async def give(db: Database, amount: int, customer_id: int = ALICE) -> Posted:
    return await db.write(
        lambda session: grant_promotional(
            session,
            customer_id,
            MicroCredits(amount),
            idempotency_key=fresh_key(),
            reference="gift",
            memo="Welcome",
        )
    )


async def give_lot(
    db: Database,
    amount: int,
    customer_id: int = ALICE,
    *,
    category: GrantCategory = GrantCategory.PROMOTIONAL,
    priority: int = 0,
    effective_at_ms: int | None = None,
    expires_at_ms: int | None = None,
) -> int:
    """The id of a grant, and of its lot, on these terms."""
    terms = LotTerms(
        priority, effective_at_ms=effective_at_ms, expires_at_ms=expires_at_ms
    )

    async def work(session: WriteSession) -> int:
        await grant_free(
            session,
            customer_id,
            MicroCredits(amount),
            category=category,
            terms=terms,
            idempotency_key=fresh_key(),
            reference="gift",
            memo="Welcome",
        )
        return (await grants_of(session, customer_id, limit=1))[0].id

    return await db.write(work)


async def newest_grant(db: Database, customer_id: int = ALICE) -> int:
    async with db.read() as session:
        return (await grants_of(session, customer_id, limit=1))[0].id


async def refund(
    db: Database, charge_id: int, amount: int | None = None, key: str | None = None
) -> Posted:
    return await db.write(
        lambda session: refunds.refund(
            session,
            charge_id,
            None if amount is None else MicroCredits(amount),
            idempotency_key=digest16(key.encode()) if key else fresh_key(),
            reference="sorry",
        )
    )


async def void(db: Database, grant_id: int, key: str | None = None) -> Posted:
    return await db.write(
        lambda session: refunds.void(
            session,
            grant_id,
            idempotency_key=digest16(key.encode()) if key else fresh_key(),
            reference="mistaken",
        )
    )


async def remainders(db: Database) -> dict[int, int]:
    """What is left of every lot that has something left."""
    async with db.read() as session:
        rows = await query(session, "SELECT id, remaining FROM lot_left WHERE is_open")
    return {row["id"]: row["remaining"] for row in rows}


async def buy(
    db: Database,
    usdc: int,
    credits_: int,
    customer_id: int = ALICE,
    priority: int = 0,
) -> Posted:
    grant = PaidGrant(
        customer_id,
        MicroCredits(credits_),
        Amount(usdc, USDC),
        POT,
        fresh_key(),
        "bought",
        "A pack",
        priority=priority,
    )
    return await db.write(lambda session: grant_paid(session, grant))


def charge(amount: int, key: str, customer_id: int = ALICE) -> Posting:
    transfer = Transfer(
        chart.customer_credits(customer_id),
        chart.feature_revenue("x"),
        Amount(amount, CREDIT),
    )
    return Posting(
        TransactionKind.CHARGE, digest16(key.encode()), [transfer], "x", "A call"
    )


async def book(db: Database, posting: Posting) -> Posted:
    return await db.write(lambda session: post(session, posting))


async def balance(db: Database, customer_id: int = ALICE) -> Balance:
    async with db.read() as session:
        return await customer_balance(session, customer_id)


async def run(db: Database, *statements: str) -> None:
    async with db.writer.begin() as connection:
        for one in statements:
            await connection.execute(text(one))


async def audit(db: Database) -> list[Finding]:
    async with db.read() as session:
        return await audit_ledger(session) + await audit_credits(session)
