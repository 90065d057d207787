"""Cooked books with permits in them are found, and no step back forgets whose nonce."""

import pytest
from sqlalchemy.exc import IntegrityError

from tallystick.chain.local import LocalChain
from tallystick.chain.permit2 import PERMIT2
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import open_database
from tallystick.migrations import downgrade
from tallystick.payments.models.topups import TopUp
from tallystick.payments.paybacks.terms import payback_nonce
from tests.house import DOLLAR, House, Process
from tests.payments.test_audit import I7_REDEEMED, tamper
from tests.permits import PermitWallet, submit_permit

I7_KEPT = "I7 the nonce of a top-up is claimed where it is kept"
I7_BOTH = "I7 what was redeemed as a plain Transfer is no top-up's"
CONTROLS = {
    "a permit's nonce becomes the token's": (
        "UPDATE topup SET authority = NULL",
        {I7_KEPT},
    ),
    "a permit's Transfer is redeemed as well": (
        """INSERT INTO redemption
           SELECT id, generation, (SELECT id FROM customer), 5, 'v', 0
             FROM chain_transfer WHERE topup_id IS NOT NULL""",
        {I7_BOTH, I7_REDEEMED},
    ),
}


@pytest.mark.parametrize("control", CONTROLS)
async def test_cooked_books_are_found_and_named(
    house: House, shop: Process, payer: PermitWallet, control: str
) -> None:
    topup_id = await shop.claim(await payer.permit(house.pay_to))
    await shop.settle(topup_id)
    assert (await shop.audit()).findings == []
    sql, invariants = CONTROLS[control]
    tamper(house, sql)
    report = await shop.audit()
    assert {one.invariant for one in report.findings} >= invariants


@pytest.mark.parametrize("how", ["presented", "only seen"])
async def test_no_step_back_makes_a_permits_nonce_another(
    database_url: str,
    local: LocalChain,
    payer: PermitWallet,
    clock: OffsetClock,
    how: str,
) -> None:
    house = House(local, database_url, 1, clock)
    shop = await house.start(takes_permit2=True)
    signed = await payer.permit(house.pay_to)
    if how == "presented":
        await shop.settle(await shop.claim(signed))
    else:
        await submit_permit(local, signed)
        await shop.observe()
    await house.stop()
    db = open_database(database_url)
    with pytest.raises(IntegrityError):
        await downgrade(db, "0023")
    await db.close()
    house.processes.clear()
    again = await house.restart(takes_permit2=True)
    await again.settle(await again.claim(signed))
    assert await again.credits_of(payer) == 10 * DOLLAR
    (topup,) = await again.topups()
    assert topup.authority == PERMIT2
    await house.stop()


def test_what_goes_back_for_a_permit_has_a_nonce_of_its_own() -> None:
    """The same number signed for the token is another purchase, paid back by itself."""
    bought = TopUp(chain_id=84532, token=b"\x03" * 20, payer=bytes(20), nonce=bytes(32))
    by_permit = TopUp(**bought.model_dump() | {"authority": PERMIT2})
    assert payback_nonce(bought, 1) != payback_nonce(by_permit, 1)
