"""One permit's way, with everything that can happen to it in between (A10, A30)."""

import asyncio
from dataclasses import replace

import pytest
from eth_abi.abi import encode

from tallystick.chain import abi
from tallystick.chain.local import OWNER, LocalChain, artifact
from tallystick.chain.permit2 import EXACT_PROXY, PERMIT2, permit_used
from tallystick.kernel.db import query
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.review import under_review
from tallystick.payments.rules.gas import GAS_RULES
from tallystick.safe_settings import UnsafeSettings
from tallystick.x402 import reasons
from tallystick.x402.errors import AllowanceMissing, PaymentRejected
from tests.house import DOLLAR, House, Process
from tests.permits import PermitWallet, approval, submit_permit
from tests.strangers import pool_transfer

S = TopUpState
_LAST_NONCE = 2**256 - 1


async def test_a_permit_is_claimed_signed_sent_and_credited(
    any_shop: Process, payer: PermitWallet
) -> None:
    signed = await payer.permit(any_shop.rail.pay_to)
    topup_id = await any_shop.claim(signed)
    assert (await any_shop.topup(topup_id)).state == S.CLAIMED
    assert (await any_shop.step(topup_id)).state == S.SIGNED
    topup = await any_shop.settle(topup_id)
    assert topup.state == S.CREDITED
    assert (topup.token, topup.authority) == (any_shop.rail.domain.contract, PERMIT2)
    assert await any_shop.credits_of(payer) == 10 * DOLLAR
    (sent,) = await any_shop.sent(topup_id)
    assert topup.tx_hash == sent.tx_hash
    assert await permit_used(any_shop.rail.chain, payer.address, signed[0].nonce)
    await any_shop.observe()
    assert await any_shop.credits_of(payer) == 10 * DOLLAR


@pytest.mark.parametrize("nonce", [0, 1, 255, 256, 2**64, _LAST_NONCE])
async def test_every_nonce_of_256_bits_is_good_once(
    shop: Process, payer: PermitWallet, nonce: int
) -> None:
    signed = await payer.permit(shop.rail.pay_to, nonce=nonce)
    first = await shop.claim(signed)
    assert (await shop.settle(first)).state == S.CREDITED
    assert await shop.claim(signed) == first
    assert await shop.credits_of(payer) == 10 * DOLLAR
    assert len(await shop.sent(first)) == 1


async def test_copies_at_once_are_one_top_up(
    any_shop: Process, payer: PermitWallet
) -> None:
    signed = await payer.permit(any_shop.rail.pay_to)
    claimed = await asyncio.gather(*(any_shop.claim(signed) for _ in range(8)))
    (topup_id,) = set(claimed)
    await any_shop.settle(topup_id)
    assert await any_shop.credits_of(payer) == 10 * DOLLAR
    assert len(await any_shop.sent(topup_id)) == 1
    async with any_shop.db.read() as session:
        (row,) = await query(session, "SELECT token, nonce FROM claim")
    assert (bytes(row["token"]), bytes(row["nonce"])) == (PERMIT2, signed[0].nonce)


async def test_the_same_nonce_is_another_one_by_the_tokens_own_method(
    any_shop: Process, payer: PermitWallet
) -> None:
    """Each is a payment of its own, and each is credited once."""
    pay_to = any_shop.rail.pay_to
    permit = await payer.permit(pay_to)
    authorization = await payer.authorize(pay_to, nonce=permit[0].nonce)
    by_permit = await any_shop.claim(permit)
    by_token = await any_shop.claim(authorization)
    assert by_permit != by_token
    assert (await any_shop.settle(by_permit)).state == S.CREDITED
    assert (await any_shop.settle(by_token)).state == S.CREDITED
    await any_shop.observe()
    assert await any_shop.credits_of(payer) == 20 * DOLLAR


async def test_a_nonce_that_is_withdrawn_after_the_claim_brings_nothing(
    any_shop: Process, payer: PermitWallet
) -> None:
    """A10: nothing is signed for what its payer has withdrawn."""
    signed = await payer.permit(any_shop.rail.pay_to)
    topup_id = await any_shop.claim(signed)
    await payer.invalidate(signed[0].nonce)
    topup = await any_shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.REJECTED, reasons.NONCE_ALREADY_USED)
    assert await any_shop.sent(topup_id) == []
    assert await any_shop.credits_of(payer) == 0


async def test_a_nonce_that_is_withdrawn_after_signing_is_canceled_when_final(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """A10: our transaction reverts; until that is final nobody asks for more money."""
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    await local.set_automine(on=False)
    assert (await shop.step(topup_id)).state == S.SIGNED
    await local.rpc("anvil_dropAllTransactions")
    await local.set_automine(on=True)
    await payer.invalidate(signed[0].nonce)
    assert (await shop.step(topup_id)).state in (S.SIGNED, S.WATCH)
    await local.mine(3)
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.CANCELED, reasons.NONCE_ALREADY_USED)
    assert await shop.credits_of(payer) == 0
    await shop.tend()


async def test_an_allowance_that_is_revoked_after_the_claim_brings_nothing(
    any_shop: Process, payer: PermitWallet
) -> None:
    topup_id = await any_shop.claim(await payer.permit(any_shop.rail.pay_to))
    await payer.approve(0)
    topup = await any_shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.REJECTED, reasons.PERMIT2_ALLOWANCE)
    assert await any_shop.sent(topup_id) == []
    assert await any_shop.credits_of(payer) == 0


async def test_an_allowance_that_is_revoked_after_signing_asks_for_no_second_payment(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """Whatever is out may still be mined, if the payer approves again."""
    topup_id = await shop.claim(await payer.permit(shop.rail.pay_to))
    await local.set_automine(on=False)
    assert (await shop.step(topup_id)).state == S.SIGNED
    await local.rpc("anvil_dropAllTransactions")
    await local.set_automine(on=True)
    await payer.approve(0)
    for _ in range(3):
        assert (await shop.step(topup_id)).state in (S.SIGNED, S.WATCH)
    assert await shop.credits_of(payer) == 0
    await payer.approve()
    topup = await shop.settle(topup_id)
    assert topup.state == S.CREDITED
    assert await shop.credits_of(payer) == 10 * DOLLAR


async def test_without_an_allowance_nothing_is_written(
    shop: Process, local: LocalChain
) -> None:
    stranger = PermitWallet(local)
    await stranger.fund()
    for allowed in (0, DOLLAR - 1):
        await stranger.approve(allowed)
        with pytest.raises(AllowanceMissing) as caught:
            await shop.claim(await stranger.permit(shop.rail.pay_to))
        assert caught.value.reason == "permit2_allowance_required"
        assert "approve(0x000000000022D473030F116dDEE9F6B43aC78BA3" in (
            caught.value.next_step or ""
        )
    await _require_nothing_written(shop)


async def test_without_the_money_nothing_is_written(
    shop: Process, local: LocalChain
) -> None:
    poor = PermitWallet(local)
    await poor.approve()
    with pytest.raises(PaymentRejected) as caught:
        await shop.claim(await poor.permit(shop.rail.pay_to))
    assert caught.value.reason == reasons.INSUFFICIENT_FUNDS
    await _require_nothing_written(shop)


async def _require_nothing_written(shop: Process) -> None:
    for table in ("claim", "topup", "customer", "wallet"):
        async with shop.db.read() as session:
            assert await query(session, f"SELECT 1 FROM {table}") == []


async def test_a_payer_who_is_drained_in_the_pool_gets_nothing(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """A08: his transfer comes first in the block, so ours reverts at our cost."""
    topup_id = await shop.claim(await payer.permit(shop.rail.pay_to, 100 * DOLLAR))
    await local.set_automine(on=False)
    await shop.step(topup_id)
    await pool_transfer(local, payer, 100 * DOLLAR)
    await local.mine()
    await local.set_automine(on=True)
    assert (await shop.until(topup_id, S.WATCH)).state == S.WATCH
    assert await shop.credits_of(payer) == 0
    await shop.tend()


async def test_somebody_else_settles_first_and_its_payer_gets_his_credits(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """A30: the money is ours, whoever has submitted it."""
    signed = await payer.permit(any_shop.rail.pay_to)
    topup_id = await any_shop.claim(signed)
    tx_hash = await submit_permit(local, signed)
    topup = await any_shop.settle(topup_id)
    assert (topup.state, topup.tx_hash) == (S.CREDITED, tx_hash)
    assert await any_shop.sent(topup_id) == []
    await any_shop.observe()
    assert await any_shop.credits_of(payer) == 10 * DOLLAR


async def test_the_observer_credits_what_somebody_else_has_settled(
    any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    signed = await payer.permit(any_shop.rail.pay_to)
    topup_id = await any_shop.claim(signed)
    await submit_permit(local, signed)
    await any_shop.observe()
    assert (await any_shop.topup(topup_id)).state == S.CREDITED
    assert await any_shop.credits_of(payer) == 10 * DOLLAR


async def test_the_nonce_is_used_for_another_token(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """Its nonces are shared by all tokens of an owner: no cent comes, and none is lent."""
    other = b"\x0d" * 20
    await local.plant(other, await local.chain.code_at(local.token))
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    elsewhere = await payer.permit(
        shop.rail.pay_to,
        0x1,
        nonce=int.from_bytes(signed[0].nonce, "big"),
        token=other,
    )
    await _give(local, other, payer)
    await submit_permit(local, elsewhere)
    topup = await shop.step(topup_id)
    assert topup.state == S.WATCH
    await local.advance(100)
    await local.mine(3)
    topup = await shop.settle(topup_id)
    assert topup.state == S.EXPIRED
    assert await shop.sent(topup_id) == []
    assert await shop.credits_of(payer) == 0


async def _give(local: LocalChain, token: bytes, payer: PermitWallet) -> None:
    """Some of another token, of which Permit2 may move all."""
    title = encode(("string", "address"), ("Other", OWNER))
    start = abi.selector("initialize(string,address)") + title
    await local.send(OWNER, token, start)
    mint = abi.selector("mint(address,uint256)") + abi.word(payer.address)
    await local.send(OWNER, token, mint + abi.word(DOLLAR))
    await local.send(payer.address, token, approval(DOLLAR))


async def test_a_permit_to_another_payee_by_the_same_nonce_brings_nothing(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    number = int.from_bytes(signed[0].nonce, "big")
    await submit_permit(local, await payer.permit(b"\x77" * 20, nonce=number))
    assert (await shop.step(topup_id)).state == S.WATCH
    await local.advance(100)
    await local.mine(3)
    assert (await shop.settle(topup_id)).state == S.EXPIRED
    assert await shop.credits_of(payer) == 0


async def test_a_permit_of_another_amount_by_the_same_nonce_is_for_a_person(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """What came lies in suspense."""
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    number = int.from_bytes(signed[0].nonce, "big")
    await submit_permit(
        local, await payer.permit(shop.rail.pay_to, 5 * DOLLAR, nonce=number)
    )
    assert (await shop.step(topup_id)).state == S.WATCH
    await shop.observe()
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.QUARANTINE, "unclear_evidence")
    await shop.observe()
    assert await shop.credits_of(payer) == 0
    async with shop.db.read() as session:
        (reviewed,) = await under_review(session)
    assert [one.value for one in reviewed.arrived] == [5 * DOLLAR]


async def test_an_expired_permit_is_never_sent(
    any_house: House, any_shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    topup_id = await any_shop.claim(
        await payer.permit(any_shop.rail.pay_to, seconds=25)
    )
    await local.advance(26)
    any_house.clock.advance(26)
    topup = await any_shop.settle(topup_id)
    assert topup.state == S.EXPIRED
    assert await any_shop.sent(topup_id) == []


async def test_a_dead_permits_nonce_of_ours_is_filled(
    shop: Process, house: House, payer: PermitWallet, local: LocalChain
) -> None:
    """Later settlements of the key do not wait for what would revert."""
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    await local.set_automine(on=False)
    assert (await shop.step(topup_id)).state == S.SIGNED
    await local.rpc("anvil_dropAllTransactions")
    await local.set_automine(on=True)
    await payer.invalidate(signed[0].nonce)
    house.clock.advance(7)
    await local.advance(7)
    for _ in range(5):
        await shop.tend()
        await local.mine()
    kinds = [one.kind for one in await shop.sent(topup_id)]
    assert "filler" in kinds
    second = await shop.claim(await payer.permit(shop.rail.pay_to))
    await shop.until(topup_id, S.CANCELED, S.EXPIRED)
    assert (await shop.settle(second)).state == S.CREDITED
    assert await shop.credits_of(payer) == 10 * DOLLAR


async def test_the_relayer_calls_nothing_but_the_proxy(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    topup_id = await shop.claim(await payer.permit(shop.rail.pay_to))
    await shop.settle(topup_id)
    (sent,) = await shop.sent(topup_id)
    found = await local.rpc("eth_getTransactionByHash", f"0x{sent.tx_hash.hex()}")
    assert found["to"] == f"0x{EXACT_PROXY.hex()}"
    assert int(found["gas"], 16) <= 150_000


@pytest.mark.parametrize("address", [PERMIT2, EXACT_PROXY])
async def test_nobody_starts_on_a_chain_where_something_else_is_in_its_place(
    house: House, local: LocalChain, address: bytes
) -> None:
    code = await local.chain.code_at(address)
    await local.plant(address, artifact("Multicall"))
    try:
        with pytest.raises(UnsafeSettings, match="PERMIT2 is set, and this chain has"):
            await house.start(takes_permit2=True)
    finally:
        await local.plant(address, code)


async def test_a_contract_that_lets_it_revert_costs_one_transaction(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    """It says yes in a rehearsal and no where gas is paid for (A27)."""
    await local.plant(payer.address, artifact("HostileWallet"))
    await local.write_storage(payer.address, 0, bytes([6]))
    topup_id = await shop.claim(await payer.permit(shop.rail.pay_to))
    assert (await shop.step(topup_id)).state == S.SIGNED
    assert (await shop.until(topup_id, S.WATCH)).state == S.WATCH
    for _ in range(3):
        await shop.step(topup_id)
    assert len(await shop.sent(topup_id)) == 1
    assert await shop.credits_of(payer) == 0
    await shop.tend()


async def test_a_process_that_dies_with_a_permit_at_any_step_is_succeeded(
    any_house: House, payer: PermitWallet, local: LocalChain
) -> None:
    """Claimed and nothing else; signed and dropped by the node; sent and not looked at."""
    first = await any_house.start(takes_permit2=True)
    topup_id = await first.claim(await payer.permit(any_house.pay_to))
    second = await any_house.restart(takes_permit2=True)
    await local.set_automine(on=False)
    assert (await second.step(topup_id)).state == S.SIGNED
    await local.rpc("anvil_dropAllTransactions")
    await local.set_automine(on=True)
    third = await any_house.restart(takes_permit2=True)
    await third.tend()
    fourth = await any_house.restart(takes_permit2=True)
    assert (await fourth.settle(topup_id)).state == S.CREDITED
    await fourth.observe()
    assert await fourth.credits_of(payer) == 10 * DOLLAR


async def test_budgets_for_gas_hold_for_permits_too(
    house: House, payer: PermitWallet
) -> None:
    """One that costs too much by these rules is not signed, and waits."""
    shop = await house.start(
        takes_permit2=True, gas=replace(GAS_RULES, percent=0, floor=0)
    )
    topup_id = await shop.claim(await payer.permit(house.pay_to))
    topup = await shop.step(topup_id)
    assert (topup.state, topup.reason) == (S.CLAIMED, "waits_for_gas")
    assert await shop.sent(topup_id) == []
