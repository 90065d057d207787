"""A plain hold cannot be told from one that was placed alone."""

from tests.credits.calls import hold
from tests.credits.clocks import StandingClock
from tests.ledger.bookings import ALICE, give_lot

from tallystick.credits.plain_holds import HOLDS, hold_row
from tallystick.kernel.db import Database, query
from tallystick.ledger.plain import PlainHold


async def test_the_row_beside_a_plain_hold_is_the_one_that_place_writes(
    standing: Database, standing_clock: StandingClock
) -> None:
    lot_id = await give_lot(standing, 9)
    hold_id = await hold(standing, 4, seconds=60)
    async with standing.read() as session:
        (row,) = await query(session, "SELECT * FROM hold")
    plain = hold_row(
        PlainHold(hold_id, ALICE, 4),
        "ai_analyst",
        now=standing_clock.now,
        lifetime_seconds=60,
    )
    names = [name for name, _ in HOLDS.columns]
    nothing = dict.fromkeys(row.keys() - {*names, HOLDS.lot})
    assert dict(row) == dict(zip(names, plain, strict=True)) | nothing | {
        HOLDS.lot: lot_id
    }
