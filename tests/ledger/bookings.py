"""Small words for the tests of the money core: give, charge, balance, audit."""

import itertools

from sqlalchemy import text

from tallystick.credits.audit import audit_credits
from tallystick.credits.grants import PaidGrant, grant_paid, grant_promotional
from tallystick.kernel.db import Database
from tallystick.kernel.money import CREDIT, USDC, Amount, MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.audit import Finding, audit_ledger
from tallystick.ledger.balances import Balance, customer_balance
from tallystick.ledger.journal import Posted, Posting, Transfer, post
from tallystick.ledger.models import TransactionKind

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


async def buy(
    db: Database, usdc: int, credits_: int, customer_id: int = ALICE
) -> Posted:
    grant = PaidGrant(
        customer_id,
        MicroCredits(credits_),
        Amount(usdc, USDC),
        POT,
        fresh_key(),
        "bought",
        "A pack",
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
