"""Above an amount two providers must show the same Transfer before it is credited."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func
from sqlmodel import select

from tallystick.chain import abi
from tallystick.chain.fault import (
    ANY,
    Delay,
    DropBefore,
    ErrorAnswer,
    FaultProxy,
    Rewrite,
    Stale,
)
from tallystick.chain.hexadecimal import to_hex
from tallystick.chain.local import LocalChain
from tallystick.claims.models import ClaimState
from tallystick.credits.models import Grant
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.errors import Unavailable
from tallystick.payments.errors import (
    PaymentUnderReview,
    SettlementPending,
    TransferNotSafe,
)
from tallystick.payments.models.chain import ChainTransfer
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.observing.redeeming import Redeemer, redeem
from tallystick.payments.purchase import require_paid
from tallystick.payments.rail import Witness
from tests.house import DOLLAR, RATE, House, Process, Wallet
from tests.payments.test_observer import claim_as, suspense
from tests.strangers import submit

S = TopUpState
WAITS = "waits_for_a_witness"
LARGE = 20
FINAL_AFTER = 8
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    async with LocalChain(slots_in_an_epoch=FINAL_AFTER // 2) as local:
        await local.mine(3 * FINAL_AFTER)
        yield local


@dataclass
class Scene:
    """A shop with a node and a witness, either of which may lie."""

    chain: LocalChain
    house: House
    shop: Process
    node: FaultProxy
    witness: FaultProxy

    async def payer(self) -> Wallet:
        return await Wallet(self.chain).fund()

    async def pay(self, payer: Wallet, dollars: int = LARGE) -> TopUp:
        """Pay, and look until it is credited or there is a reason why not."""
        signed = await payer.authorize(self.shop.rail.pay_to, dollars * DOLLAR)
        return await self.look(await self.shop.claim(signed))

    async def look(self, topup_id: int) -> TopUp:
        for _ in range(100):
            topup = await self.shop.step(topup_id)
            if topup.state == S.CREDITED or topup.reason is not None:
                return topup
            await asyncio.sleep(0.01)
        raise AssertionError(f"it stays {topup.state}")

    async def finalize(self) -> None:
        await self.chain.mine(FINAL_AFTER)
        await confirm(self.shop.db, self.shop.rail)

    def asked(self) -> int:
        return self.witness.seen["eth_getTransactionReceipt"]


@pytest.fixture
async def scene(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[Scene]:
    async with scene_on(chain, database_url, clock) as made:
        yield made


@contextlib.asynccontextmanager
async def scene_on(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[Scene]:
    house = House(chain, database_url, 1, clock)
    async with FaultProxy(chain.url) as node, FaultProxy(chain.url) as witness:
        nodes = chain.open_chain(witness.url, timeout_seconds=0.7)
        shop = await house.start(node.url, witness=Witness(nodes, LARGE * DOLLAR))
        made = Scene(chain, house, shop, node, witness)
        try:
            yield made
            if house.is_sound:
                node.heal()
                assert (await shop.audit()).findings == []
        finally:
            await house.stop()


async def test_what_both_providers_show_is_credited_at_once(scene: Scene) -> None:
    payer = await scene.payer()
    assert (await scene.pay(payer)).state == S.CREDITED
    assert await scene.shop.credits_of(payer) == LARGE * 10 * DOLLAR
    outlook = scene.shop.rail.outlook
    assert (outlook.witness_agreed, outlook.witness_disagreed) == (1, 0)
    asked = scene.asked()
    await scene.shop.observe()
    assert scene.asked() == asked, "what is credited is not asked about again"


@ON_SQLITE
async def test_small_amounts_are_not_asked_about(scene: Scene) -> None:
    await scene.witness.down()
    payer = await scene.payer()
    assert (await scene.pay(payer, LARGE - 1)).state == S.CREDITED
    await payer.send(scene.house.pay_to, LARGE * DOLLAR)
    await scene.shop.observe()
    assert sum(scene.witness.seen.values()) == 0


SILENT = {
    "down": DropBefore(),
    "lags": Stale(blocks=20),
    "refuses": ErrorAnswer(),
    "is slow": Delay(seconds=5),
    "knows nothing": Rewrite(change=lambda _: None),
}


@pytest.mark.parametrize("fault", SILENT)
async def test_a_silent_witness_lets_a_large_payment_wait_and_nobody_else(
    scene: Scene, fault: str
) -> None:
    """It is never refused, and its wallet's lane is free."""
    scene.witness.inject(ANY, SILENT[fault])
    payer = await scene.payer()
    waits = await scene.pay(payer)
    assert (waits.state, waits.reason, waits.in_flight) == (S.SIGNED, WAITS, False)
    with pytest.raises(SettlementPending):
        require_paid(waits)
    assert (await scene.pay(payer, 1)).state == S.CREDITED
    await scene.finalize()
    await scene.shop.observe()
    assert (await scene.shop.topup(waits.id)).reason == WAITS
    assert await suspense(scene.shop) == LARGE * DOLLAR
    assert await scene.shop.credits_of(payer) == 10 * DOLLAR
    scene.witness.heal()
    scene.shop.rail.outlook.witness_rests_until = 0.0
    await scene.shop.observe()
    done = await scene.shop.topup(waits.id)
    assert (done.state, done.reason) == (S.CREDITED, None)
    assert await scene.shop.credits_of(payer) == (LARGE + 1) * 10 * DOLLAR
    assert await suspense(scene.shop) == 0


@ON_SQLITE
async def test_a_witness_that_keeps_us_waiting_is_asked_seldom(scene: Scene) -> None:
    """Others wait for the worker that asks."""
    scene.witness.inject(ANY, Delay(seconds=5))
    waits = await scene.pay(await scene.payer())
    asked = sum(scene.witness.seen.values())
    began = asyncio.get_running_loop().time()
    for _ in range(5):
        await scene.shop.step(waits.id)
    assert sum(scene.witness.seen.values()) == asked
    assert asyncio.get_running_loop().time() - began < 5


def with_transfer(amount: int, payer: bytes, pay_to: bytes) -> Any:
    """Makes of a node's logs and receipts those of another transfer."""

    def change(result: Any) -> Any:
        if isinstance(result, dict) and "logs" in result:
            return {**result, "logs": [_richer(one) for one in result["logs"]]}
        if isinstance(result, list):
            return [_richer(one) for one in result]
        return result

    def _richer(log: Any) -> Any:
        topics = [log["topics"][0], to_hex(abi.word(payer)), to_hex(abi.word(pay_to))]
        if log["topics"] != topics:
            return log
        return {**log, "data": to_hex(abi.word(amount))}

    return change


async def test_a_transfer_that_only_our_node_shows_is_never_credited(
    scene: Scene,
) -> None:
    """It makes a thousand dollars of one; the payer has signed a thousand."""
    scene.house.is_sound = False
    payer = await scene.payer()
    signed = await payer.authorize(scene.house.pay_to, 50 * DOLLAR)
    real = await payer.authorize(scene.house.pay_to, DOLLAR, nonce=signed[0].nonce)
    topup_id = await scene.shop.claim(signed)
    await submit(scene.chain, real)
    lie = Rewrite(change=with_transfer(50 * DOLLAR, payer.address, scene.house.pay_to))
    scene.node.inject("eth_getLogs", lie)
    scene.node.inject("eth_getTransactionReceipt", lie)
    topup = await scene.look(topup_id)
    assert (topup.state, topup.reason) == (S.WATCH, WAITS), "a fork may pass"
    await scene.finalize()
    topup = await scene.shop.until(topup_id, S.QUARANTINE)
    assert topup.reason == "witness_contradicts"
    with pytest.raises(PaymentUnderReview):
        require_paid(topup)
    for _ in range(2):
        await scene.shop.observe()
    assert await scene.shop.credits_of(payer) == 0
    outlook = scene.shop.rail.outlook
    assert (outlook.witness_agreed, outlook.witness_disagreed) == (0, 1)


async def test_the_observer_asks_as_well(scene: Scene) -> None:
    """A waived payment that a stranger submits becomes a top-up there."""
    scene.house.is_sound = False
    payer = await scene.payer()
    signed = await payer.authorize(scene.house.pay_to, 50 * DOLLAR)
    await claim_as(scene.shop, signed, ClaimState.WAIVED)
    real = await payer.authorize(scene.house.pay_to, DOLLAR, nonce=signed[0].nonce)
    await submit(scene.chain, real)
    lie = Rewrite(change=with_transfer(50 * DOLLAR, payer.address, scene.house.pay_to))
    scene.node.inject("eth_getLogs", lie)
    scene.node.inject("eth_getTransactionReceipt", lie)
    await scene.shop.observe()
    (topup,) = await scene.shop.topups()
    assert (topup.state, topup.reason) == (S.WATCH, WAITS)
    await scene.finalize()
    await scene.shop.observe()
    assert (await scene.shop.topup(topup.id)).state == S.QUARANTINE
    assert await scene.shop.credits_of(payer) == 0


def without_logs(result: Any) -> Any:
    return {**result, "logs": []} if result and "logs" in result else result


@ON_SQLITE
async def test_a_witness_that_drops_logs_costs_nobody_his_money(scene: Scene) -> None:
    """It waits while that may pass; a contradiction for good is for a person."""
    scene.witness.inject("eth_getTransactionReceipt", Rewrite(change=without_logs))
    first, second = [await scene.pay(await scene.payer()) for _ in range(2)]
    assert {first.reason, second.reason} == {WAITS}
    await scene.shop.observe()
    scene.witness.heal()
    await scene.shop.step(first.id)
    assert (await scene.shop.topup(first.id)).state == S.CREDITED
    scene.witness.inject("eth_getTransactionReceipt", Rewrite(change=without_logs))
    await scene.finalize()
    await scene.shop.observe()
    assert (await scene.shop.topup(second.id)).state == S.QUARANTINE
    assert await suspense(scene.shop) == LARGE * DOLLAR, "its money is in the books"


@ON_SQLITE
async def test_a_witness_without_old_receipts_contradicts_nothing(scene: Scene) -> None:
    """Its block lists the transaction, so the receipt is only not there."""
    no_receipt = Rewrite(change=lambda _: None)
    scene.witness.inject("eth_getTransactionReceipt", no_receipt)
    topup = await scene.pay(await scene.payer())
    await scene.finalize()
    assert (await scene.shop.step(topup.id)).reason == WAITS


def on_another_fork(result: Any) -> Any:
    return result and {**result, "hash": "0x" + "66" * 32}


async def test_a_witness_on_a_fork_at_the_tip_agrees_later(scene: Scene) -> None:
    scene.witness.inject("eth_getBlockByNumber", Rewrite(change=on_another_fork))
    payer = await scene.payer()
    waits = await scene.pay(payer)
    assert (waits.state, waits.reason) == (S.SIGNED, WAITS)
    scene.witness.heal()
    await scene.finalize()
    assert (await scene.shop.step(waits.id)).state == S.CREDITED
    outlook = scene.shop.rail.outlook
    assert (outlook.witness_agreed, outlook.witness_disagreed) == (1, 1)


async def test_a_witness_of_another_chain_is_no_witness(scene: Scene) -> None:
    scene.witness.inject("eth_chainId", Rewrite(change=lambda _: "0x1"))
    payer = await scene.payer()
    topup = await scene.pay(payer)
    assert (topup.state, topup.reason) == (S.QUARANTINE, "witness_contradicts")
    await scene.shop.observe()
    assert await scene.shop.credits_of(payer) == 0
    assert (await scene.pay(payer, 1)).state == S.CREDITED


@ON_SQLITE
async def test_a_refused_payment_whose_money_only_our_node_shows_is_refused_no_more(
    scene: Scene,
) -> None:
    """A 402 would have its payer pay once more."""
    payer = await Wallet(scene.chain).fund(LARGE * DOLLAR)
    signed = await payer.authorize(scene.house.pay_to, LARGE * DOLLAR)
    topup_id = await scene.shop.claim(signed)
    await payer.send(b"\x0e" * 20, DOLLAR)
    assert (await scene.shop.settle(topup_id)).state == S.REJECTED
    await payer.fund(DOLLAR)
    scene.witness.inject(ANY, DropBefore())
    await submit(scene.chain, signed)
    await scene.shop.observe()
    topup = await scene.shop.topup(topup_id)
    assert (topup.state, topup.reason) == (S.WATCH, WAITS)
    scene.witness.heal()
    await scene.shop.observe()
    assert (await scene.shop.topup(topup_id)).state == S.CREDITED


@ON_SQLITE
async def test_the_caps_hold_for_what_is_witnessed_too(scene: Scene) -> None:
    payer = await scene.payer()
    await payer.fund(200 * DOLLAR)
    topup = await scene.pay(payer, 101)
    assert topup.reason == "waits_for_a_safe_block"
    asked = scene.asked()
    for _ in range(3):
        await scene.shop.step(topup.id)
    assert scene.asked() == asked, "it has agreed, and is not asked again"
    await scene.finalize()
    assert (await scene.shop.step(topup.id)).state == S.CREDITED


@ON_SQLITE
async def test_who_waits_for_the_witness_before_it_is_signed_keeps_no_lane(
    scene: Scene,
) -> None:
    """A stranger has submitted it, and the wallet's next payment is queued behind it."""
    payer = await scene.payer()
    signed = await payer.authorize(scene.house.pay_to, LARGE * DOLLAR)
    first = await scene.shop.claim(signed)
    small = await scene.shop.claim(await payer.authorize(scene.house.pay_to))
    assert not (await scene.shop.topup(small)).in_flight
    scene.witness.inject(ANY, DropBefore())
    await submit(scene.chain, signed)
    waits = await scene.look(first)
    assert (waits.state, waits.reason, waits.in_flight) == (S.WATCH, WAITS, False)
    assert (await scene.shop.until(small, S.CREDITED)).value == DOLLAR
    scene.witness.heal()
    assert (await scene.shop.step(first)).state == S.CREDITED


@pytest.mark.parametrize("how", ["plain", "authorized"])
async def test_what_is_redeemed_is_witnessed(scene: Scene, how: str) -> None:
    payer = await scene.payer()
    if how == "authorized":
        signed = await payer.authorize(scene.house.pay_to, LARGE * DOLLAR)
        await submit(scene.chain, signed)
    else:
        await payer.send(scene.house.pay_to, LARGE * DOLLAR)
    await scene.shop.observe()
    await scene.finalize()
    (tx,) = await transactions(scene.shop)
    who = Redeemer(None, payer.address)
    args = (scene.shop.db, scene.shop.rail, RATE, who, tx)
    scene.witness.inject(ANY, Stale(blocks=60))
    with pytest.raises(TransferNotSafe, match="second node"):
        await redeem(*args)
    scene.witness.heal()
    scene.witness.inject("eth_getTransactionReceipt", Rewrite(change=without_logs))
    with pytest.raises(PaymentUnderReview):
        await redeem(*args)
    assert await scene.shop.credits_of(payer) == 0
    scene.witness.heal()
    assert (await redeem(*args)).credits == LARGE * 10 * DOLLAR
    assert await scene.shop.credits_of(payer) == LARGE * 10 * DOLLAR


@pytest.mark.parametrize("lie", [None, without_logs])
async def test_what_nobody_presented_is_witnessed_before_it_is_credited(
    scene: Scene, lie: Any
) -> None:
    payer = await scene.payer()
    assert (await scene.pay(payer, 1)).state == S.CREDITED
    signed = await payer.authorize(scene.house.pay_to, LARGE * DOLLAR)
    await submit(scene.chain, signed)
    await scene.finalize()
    if lie is None:
        scene.witness.inject(ANY, DropBefore())
    else:
        scene.witness.inject("eth_getTransactionReceipt", Rewrite(change=lie))
    await scene.shop.observe()
    (found,) = [one for one in await scene.shop.topups() if not one.valid_before]
    assert found.state == (S.QUARANTINE if lie else S.WATCH)
    assert await scene.shop.credits_of(payer) == 10 * DOLLAR
    assert await suspense(scene.shop) == LARGE * DOLLAR
    scene.witness.heal()
    await scene.shop.observe()
    credited = 0 if lie else LARGE
    assert await scene.shop.credits_of(payer) == (1 + credited) * 10 * DOLLAR


TROUBLE = (
    partial(DropBefore, probability=0.4),
    partial(ErrorAnswer, probability=0.4),
    partial(Stale, blocks=3),
)
LIES = (
    ("eth_getTransactionReceipt", without_logs),
    ("eth_getTransactionReceipt", lambda _: None),
    ("eth_getBlockByNumber", on_another_fork),
)


@ON_SQLITE
@pytest.mark.parametrize("seed", range(2))
async def test_whatever_nodes_do_at_the_tip_each_payment_is_credited_once(
    database_url: str, clock: OffsetClock, seed: int
) -> None:
    """R09: both are in trouble at random, and the witness lies as well."""
    chance = random.Random(seed)
    async with LocalChain(slots_in_an_epoch=64) as deep:
        await deep.mine(140)
        async with scene_on(deep, database_url, clock) as scene:
            claims, expected = [], 0
            for dollars in (LARGE, 3, LARGE + 5, LARGE, 1, LARGE + 1):
                payer = await scene.payer()
                await deep.mine(4)  # so that a node which lags knows his money
                signed = await payer.authorize(scene.house.pay_to, dollars * DOLLAR)
                claims.append(await scene.shop.claim(signed))
                expected += dollars * 10 * DOLLAR
                if chance.random() < 0.3:
                    await submit(deep, signed)
                for _ in range(4):
                    await _look_in_trouble(scene, chance, claims)
            for proxy in (scene.node, scene.witness):
                proxy.heal()
            assert all(one.state != S.QUARANTINE for one in await scene.shop.topups())
            for one in claims:
                await scene.shop.until(one, S.CREDITED, S.SAFE, S.FINAL)
            async with scene.shop.db.read() as session:
                grants = await session.exec(select(func.sum(Grant.amount)))
                assert grants.one() == expected


async def _look_in_trouble(
    scene: Scene, chance: random.Random, claims: list[int]
) -> None:
    for proxy in (scene.node, scene.witness):
        proxy.heal()
        if chance.random() < 0.5:
            proxy.inject(ANY, chance.choice(TROUBLE)())
    if chance.random() < 0.5:
        method, change = chance.choice(LIES)
        scene.witness.inject(method, Rewrite(change=change))
    with contextlib.suppress(Unavailable):
        await scene.shop.step(chance.choice(claims))
    with contextlib.suppress(Unavailable):
        await scene.shop.observe()
    scene.node.heal()


async def transactions(shop: Process) -> list[bytes]:
    """Of the Transfers that the books have."""
    async with shop.db.read() as session:
        return [bytes(one) for one in await session.exec(select(ChainTransfer.tx_hash))]
