"""A waived payment that somebody else submitted does not stop the sweeper."""

from tallystick.claims.claim import ClaimedMoney, Use, claim, prune_unsettled
from tallystick.claims.models import ClaimState
from tallystick.customers.wallets import create_customer
from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.money import MicroCredits
from tallystick.payments.topups import adopt_claim

_MONEY = ClaimedMoney(84532, bytes(20), bytes(20), bytes(32), 1, 0, 1, bytes(16))
_OTHER = ClaimedMoney(84532, bytes(20), bytes(20), b"\1" * 32, 1, 0, 1, bytes(16))


async def test_an_adopted_claim_stays_and_its_neighbours_are_forgotten(
    db: Database,
) -> None:
    async def work(session: WriteSession) -> None:
        use = Use(await create_customer(session), "x", MicroCredits(1), 0)
        adopted = await claim(session, _MONEY, use, state=ClaimState.WAIVED)
        await claim(session, _OTHER, use, state=ClaimState.WAIVED)
        assert adopted is not None
        await adopt_claim(
            session,
            adopted,
            token=bytes(20),
            pay_to=bytes(20),
            credits_bought=MicroCredits(1),
            catalog_version="1",
            scan_from_block=0,
        )

    await db.write(work)
    assert await db.write(lambda one: prune_unsettled(one, before_seconds=9)) == 1
    async with db.read() as session:
        rows = await query(session, "SELECT state FROM claim")
    assert [row["state"] for row in rows] == ["overtaken"]
