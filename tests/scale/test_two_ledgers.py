"""Two whole ledgers on two clusters, each with the customers that a hash gives it.

What this asks of the code, and what must change for it, is in docs/scaling.md.
"""

from collections import Counter

from tallystick.credits import holds
from tallystick.customers.wallets import customer_of_wallet, ensure_customer_of_wallet
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.ids import SLOTS
from tallystick.kernel.money import MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tests.ledger.bookings import book, charge, give, run

Ledgers = tuple[Database, Database]


def home(ledgers: Ledgers, wallet: bytes) -> Database:
    """The ledger of a wallet, by nothing but its address."""
    return ledgers[digest16(wallet)[0] % 2]


async def serve(db: Database, wallet: bytes) -> None:
    """A customer's first gift, a charge of 10 and a hold of which 5 are captured."""
    customer_id = await db.write(
        lambda session: ensure_customer_of_wallet(session, wallet)
    )
    await give(db, 100, customer_id)
    await book(db, charge(10, f"call of {customer_id}", customer_id))

    async def hold(session: WriteSession) -> None:
        amount = MicroCredits(20)
        held = await holds.place(session, customer_id, "x", amount, lifetime_seconds=60)
        assert held is not None
        await holds.capture(session, held.id, MicroCredits(5))

    await db.write(hold)


async def earned(db: Database) -> int:
    async with db.read() as session:
        return -await net_debits(session, chart.feature_revenue("x"))


async def test_each_ledger_balances_and_the_house_earned_their_sum(
    ledgers: Ledgers,
) -> None:
    wallets = [bytes([one]) * 20 for one in range(12)]
    for one in wallets:
        await serve(home(ledgers, one), one)
    shares = Counter(ledgers.index(home(ledgers, one)) for one in wallets)
    assert min(shares[0], shares[1]) > 0
    for number, db in enumerate(ledgers):
        assert await earned(db) == shares[number] * 15
        async with db.read() as session:
            found = [await customer_of_wallet(session, one) for one in wallets]
        assert sum(one is not None for one in found) == shares[number]


def slot_of(number: int) -> int:
    return number >> 12 & SLOTS - 1


async def test_two_new_ledgers_make_the_same_ids_unless_their_slots_differ(
    ledgers: Ledgers,
) -> None:
    """Each ledger counts its own boots, so both begin with the same slot."""
    first, second = ledgers
    assert slot_of(first.ids.new()) == slot_of(second.ids.new())
    await run(second, f"UPDATE installation SET boots = {SLOTS // 2}")
    await second.start()
    assert slot_of(second.ids.new()) == SLOTS // 2 + 1
