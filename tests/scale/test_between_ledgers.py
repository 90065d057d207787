"""Credits move to a customer of another ledger in two steps, over a clearing account.

Either step is one transaction of one ledger, once for its key. Whoever breaks off in
between leaves the money on the clearing account of the first ledger, whose journal says
everything that the second step needs.
"""

from dataclasses import dataclass

import pytest

from tallystick.credits.grants import PaidGrant, grant_paid
from tallystick.kernel.db import Database
from tallystick.kernel.failing import DatabaseBusy
from tallystick.kernel.money import CREDIT, USDC, Amount, MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.ledger.chart import AccountName
from tallystick.ledger.errors import InsufficientCredits
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posted, Posting, Transfer
from tallystick.ledger.transfers import BEFORE_THE_FIRST, transfers
from tests.ledger.bookings import ALICE, BOB, balance, book, buy, charge
from tests.postgres import PostgresServer

Ledgers = tuple[Database, Database]
CLEARING = AccountName("liabilities:clearing:usdc", USDC)


@dataclass(frozen=True)
class Move:
    """Bought credits on their way to another ledger, with what they had cost."""

    name: str
    taker: int
    credits: int
    usdc: int

    @property
    def reference(self) -> str:
        return f"move:{self.name}:{self.taker}"

    async def leave(self, db: Database, giver: int) -> Posted:
        """The first ledger no longer owes the credits, but their money."""
        key = digest16(b"leave", self.name.encode())
        lines = [
            Transfer(
                chart.customer_credits(giver),
                chart.exchange(CREDIT),
                Amount(self.credits, CREDIT),
            ),
            Transfer(chart.exchange(USDC), CLEARING, Amount(self.usdc, USDC)),
        ]
        kind = TransactionKind.CHARGE
        return await book(db, Posting(kind, key, lines, self.reference, "Moved"))

    async def arrive(self, db: Database) -> Posted:
        """The second ledger owes them, for money that the first one has."""
        grant = PaidGrant(
            self.taker,
            MicroCredits(self.credits),
            Amount(self.usdc, USDC),
            paid_into=CLEARING,
            idempotency_key=digest16(b"arrive", self.name.encode()),
            reference=self.reference,
            memo="Moved",
        )
        return await db.write(lambda session: grant_paid(session, grant))


async def left(db: Database) -> list[Move]:
    """What ever left a ledger, from its journal alone."""
    async with db.read() as session:
        journal = await transfers(session, after=BEFORE_THE_FIRST, limit=1_000)
    found = []
    for one in journal:
        if one.credit == CLEARING.code:
            _, name, taker = one.reference.split(":")
            (gone,) = [
                other.amount
                for other in journal
                if other.ledger_transaction_id == one.ledger_transaction_id
                and other.asset == CREDIT
            ]
            found.append(Move(name, int(taker), gone, one.amount))
    return found


async def in_between(ledgers: Ledgers) -> int:
    """Atomic USDC that left one ledger and did not arrive in the other."""
    total = 0
    for db in ledgers:
        async with db.read() as session:
            total -= await net_debits(session, CLEARING)
    return total


async def test_a_move_that_a_crash_cut_in_two_is_finished_once(
    ledgers: Ledgers, elsewhere: PostgresServer
) -> None:
    first, second = ledgers
    await buy(first, 1_000, 10_000)
    await Move("m1", BOB, 4_000, 400).leave(first, ALICE)
    await second.close()  # no server process of its own outlives the crash
    elsewhere.kill()
    with pytest.raises(DatabaseBusy):
        await Move("m1", BOB, 4_000, 400).arrive(second)
    elsewhere.restart()
    assert (await in_between(ledgers), (await balance(second, BOB)).posted) == (400, 0)
    for is_known in (False, True):
        (found,) = await left(first)
        assert (await found.leave(first, ALICE)).replayed
        assert (await found.arrive(second)).replayed == is_known
    assert await in_between(ledgers) == 0
    assert (await balance(first)).available == 6_000
    assert (await balance(second, BOB)).available == 4_000


async def test_who_has_not_enough_moves_nothing(ledgers: Ledgers) -> None:
    first, _ = ledgers
    await buy(first, 1_000, 10_000)
    await book(first, charge(9_000, "spent"))
    with pytest.raises(InsufficientCredits):
        await Move("m1", BOB, 4_000, 400).leave(first, ALICE)
    assert (await left(first), await in_between(ledgers)) == ([], 0)
