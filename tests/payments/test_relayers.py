"""The keys that pay for gas: their nonces have no gaps, and none works without money."""

import asyncio

import pytest
from structlog.testing import capture_logs

from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.fault import DropBefore, ErrorAnswer, FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.chain.logs import receipt
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.models.topups import RelayedTransaction, SentKind, TopUpState
from tests.house import DOLLAR, House, Process, Wallet, relayer
from tests.strangers import submit

S = TopUpState
ETHER = 10**18


def nonces(sent: list[RelayedTransaction], address: bytes) -> list[int]:
    return sorted(row.evm_nonce for row in sent if row.relayer == address)


async def all_sent(shop: Process, topup_ids: list[int]) -> list[RelayedTransaction]:
    return [row for one in topup_ids for row in await shop.sent(one)]


async def test_two_keys_share_the_work_and_neither_leaves_a_gap(
    any_house: House, local: LocalChain
) -> None:
    keys = (relayer(2), relayer(3))
    before = [await local.chain.nonce(one.address, "latest") for one in keys]
    shop = await any_house.start(relayers=keys)
    topup_ids = []
    for _ in range(12):
        wallet = await Wallet(local).fund()
        topup_ids.append(await shop.claim(await wallet.authorize(any_house.pay_to)))
    while not all([(await shop.topup(one)).state == S.CREDITED for one in topup_ids]):
        await shop.settle_due()
        await asyncio.sleep(0.05)
    sent = await all_sent(shop, topup_ids)
    for key, first in zip(keys, before, strict=True):
        used = nonces(sent, key.address)
        assert used, "with 12 random payments, each key gets some (1 in 2000 not)"
        assert used == list(range(first, first + len(used)))
    assert len(sent) == 12


async def test_a_nonce_that_somebody_else_used_is_found_out_and_passed_over(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """The key is used outside: what we signed can never be mined."""
    key = relayer(2)
    shop = await house.start(relayers=(key,))
    for _ in range(3):
        await local.send(key.address, b"\x0e" * 20)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    with capture_logs() as logs:
        assert (await shop.settle(topup_id)).state == S.CREDITED
    assert "relayer_nonce_used_elsewhere" in [line["event"] for line in logs]
    dead, mined = await shop.sent(topup_id)
    assert mined.evm_nonce == dead.evm_nonce + 3
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_a_payment_that_died_before_it_was_sent_gives_its_nonce_to_a_filler(
    any_house: House, local: LocalChain, proxy: FaultProxy
) -> None:
    """One lost broadcast, and every later settlement would hang."""
    key = relayer(4)
    shop = await any_house.start(proxy.url, relayers=(key,))
    first, second = await Wallet(local).fund(), await Wallet(local).fund()
    signed = await first.authorize(any_house.pay_to)
    topup_id = await shop.claim(signed)
    proxy.inject("eth_sendRawTransaction", DropBefore(times=1))
    with pytest.raises(RpcUnavailable):
        await shop.step(topup_id)
    await submit(local, signed)
    assert (await shop.step(topup_id)).state == S.CREDITED, "another has settled it"

    later = await shop.claim(await second.authorize(any_house.pay_to))
    assert (await shop.settle(later)).state == S.CREDITED
    dead, filler = await shop.sent(topup_id)
    assert (dead.kind, filler.kind) == (SentKind.SETTLEMENT, SentKind.FILLER)
    assert (filler.evm_nonce, filler.attempt) == (dead.evm_nonce, 2)
    assert await receipt(local.chain, dead.tx_hash) is None, "no gas for a revert"
    found = await receipt(local.chain, filler.tx_hash)
    assert found is not None
    assert found.succeeded
    (sent,) = await shop.sent(later)
    assert sent.evm_nonce == dead.evm_nonce + 1
    assert await local.chain.nonce(key.address, "latest") == dead.evm_nonce + 2


async def test_a_nonce_that_stays_open_rings_the_alarm(
    house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    shop = await house.start(proxy.url, relayers=(relayer(4),))
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    proxy.inject("eth_sendRawTransaction", ErrorAnswer(message="pool is full"))
    await shop.step(topup_id)
    with capture_logs() as logs:
        await shop.tend()
    assert "relayer_nonce_stuck" not in [line["event"] for line in logs]
    house.clock.advance(61)
    with capture_logs() as logs:
        await shop.tend()
        await shop.tend()
    told = [line["event"] for line in logs]
    assert told.count("relayer_nonce_stuck") == 1, "once for each nonce"
    proxy.heal()
    assert (await shop.settle(topup_id)).state == S.CREDITED


async def test_the_bytes_are_not_sent_again_before_their_time(
    house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    shop = await house.start(proxy.url, resend_seconds=4.0)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    proxy.inject("eth_sendRawTransaction", ErrorAnswer(message="pool is full"))
    await shop.step(topup_id, times=5)
    assert proxy.seen["eth_sendRawTransaction"] == 1
    house.clock.advance(4)
    await shop.step(topup_id, times=5)
    assert proxy.seen["eth_sendRawTransaction"] == 2
    proxy.heal()
    house.clock.advance(4)
    assert (await shop.settle(topup_id)).state == S.CREDITED


async def test_without_gas_money_no_payment_is_claimed_and_the_alarm_rings_once(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    key = relayer(6)
    await local.give_gas(key.address, 0)
    try:
        with capture_logs() as logs:
            shop = await house.start(relayers=(key,))
            for _ in range(3):
                await shop.tend()
        alarms = [line for line in logs if line["event"] == "relayer_without_gas"]
        assert len(alarms) == 1
        with pytest.raises(TopUpsUnavailable):
            await shop.claim(await wallet.authorize(house.pay_to))
    finally:
        await local.give_gas(key.address, 100 * ETHER)
    await shop.tend()
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    assert (await shop.settle(topup_id)).state == S.CREDITED


async def test_a_claimed_payment_waits_while_no_key_has_gas_money(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    key = relayer(6)
    shop = await house.start(relayers=(key,))
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    await local.give_gas(key.address, 0)
    try:
        await shop.tend()
        await shop.step(topup_id, times=3)
        assert (await shop.topup(topup_id)).state == S.CLAIMED
        assert await shop.sent(topup_id) == [], "nothing is signed that cannot be paid"
    finally:
        await local.give_gas(key.address, 100 * ETHER)
    await shop.tend()
    assert (await shop.settle(topup_id)).state == S.CREDITED


async def test_a_key_that_runs_dry_while_sending_is_paused_and_the_other_works(
    house: House, local: LocalChain
) -> None:
    """The node says so only when it gets the transaction; it stays SIGNED."""
    dry, rich = relayer(6), relayer(3)
    shop = await house.start(relayers=(dry,))
    first, second = await Wallet(local).fund(), await Wallet(local).fund()
    topup_id = await shop.claim(await first.authorize(house.pay_to))
    await local.give_gas(dry.address, 1)
    try:
        with capture_logs() as logs:
            assert (await shop.step(topup_id)).state == S.SIGNED
        assert "relayer_without_gas" in [line["event"] for line in logs]
        both = await house.start(relayers=(dry, rich))
        later = await both.claim(await second.authorize(house.pay_to))
        assert (await both.settle(later)).state == S.CREDITED
        assert (await shop.step(topup_id)).state == S.SIGNED, "a timeout is no outcome"
    finally:
        await local.give_gas(dry.address, 100 * ETHER)
    await shop.tend()
    assert (await shop.settle(topup_id)).state == S.CREDITED
    assert len(await shop.sent(topup_id)) == 1


async def test_without_any_key_open_payments_are_still_watched(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """The operator took the keys away; the payer's money comes by another's hand."""
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    topup_id = await shop.claim(signed)
    keyless = await house.start(relayers=())
    await keyless.step(topup_id, times=2)
    await submit(local, signed)
    assert (await keyless.settle(topup_id)).state == S.CREDITED
