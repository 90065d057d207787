"""A node that keeps logs back has nobody pay a second time."""

import pytest

from tallystick.chain.fault import FaultProxy, Rewrite
from tallystick.chain.local import LocalChain
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.review import look_again
from tallystick.workers.reconciling import compare_and_mend
from tests.house import DOLLAR, HOLD_SECONDS, RATE, House, Wallet
from tests.strangers import submit

S = TopUpState


@pytest.mark.parametrize("who", ["we", "a stranger"])
async def test_what_was_captured_without_a_log_is_for_a_person_and_credited_later(
    house: House, local: LocalChain, proxy: FaultProxy, wallet: Wallet, who: str
) -> None:
    """A refusal would ask its payer for another signature, though his money is here."""
    shop = await house.start(proxy.url)
    signed = await wallet.authorize(house.pay_to, DOLLAR)
    topup_id = await shop.claim(signed)
    proxy.inject("eth_getLogs", Rewrite(change=lambda _: []))
    if who == "we":
        assert (await shop.step(topup_id, 4)).state == S.SIGNED
    else:
        await submit(local, signed)
        assert (await shop.step(topup_id, 2)).state == S.WATCH
    await local.advance(120)
    await local.mine(80)
    house.clock.advance(120)
    topup = await shop.step(topup_id, 2)
    assert (topup.state, topup.reason) == (S.QUARANTINE, "hidden_evidence")
    proxy.heal()
    await shop.db.write(lambda session: look_again(session, topup_id))
    assert (await shop.settle(topup_id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    found = await compare_and_mend(shop.db, shop.rail, RATE, hold_seconds=HOLD_SECONDS)
    assert found.findings == ()
