"""Nonces that do not get into a block: dearer attempts, fillers, holes."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from eth_utils.crypto import keccak

from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.fault import (
    DropAfter,
    DropBefore,
    ErrorAnswer,
    Fault,
    FaultProxy,
    Rewrite,
)
from tallystick.chain.faults import Answer, Forward
from tallystick.chain.local import LocalChain
from tallystick.chain.logs import receipt
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import query
from tallystick.payments.models.topups import RelayedTransaction, SentKind, TopUpState
from tallystick.payments.relaying.relayer import MOST_TRANSACTIONS
from tests.house import DOLLAR, House, Process, Wallet, relayer

S = TopUpState
KEY = relayer(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swallow(Fault):
    """The node takes a transaction, and nobody ever hears of it again."""

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        raw = bytes.fromhex(request["params"][0][2:])
        return {"result": f"0x{keccak(raw).hex()}"}


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    """One whose clock may be moved together with ours."""
    async with LocalChain() as fresh:
        yield fresh


@pytest.fixture
async def node(chain: LocalChain) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(chain.url) as made:
        yield made


@pytest.fixture
async def shop_house(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    made = House(chain, database_url, 0, clock)
    try:
        yield made
        auditor = await made.start()
        assert (await auditor.audit()).findings == []
    finally:
        await made.stop()


@pytest.fixture
async def shop(shop_house: House, node: FaultProxy) -> Process:
    return await shop_house.start(node.url, relayers=(KEY,))


async def claimed(house: House, shop: Process, *, usdc: int = DOLLAR) -> int:
    wallet = await Wallet(house.local).fund()
    return await shop.claim(await wallet.authorize(house.pay_to, usdc))


async def wait(house: House, seconds: int) -> None:
    house.clock.advance(seconds)
    await house.local.advance(seconds)


def fees_of(sent: RelayedTransaction) -> tuple[int, int]:
    return sent.max_fee_per_gas, sent.max_priority_fee_per_gas


def require_gapless(sent: list[RelayedTransaction], first: int) -> None:
    nonces = sorted({one.evm_nonce for one in sent})
    assert nonces == list(range(first, first + len(nonces)))


async def test_what_was_swallowed_is_signed_again_dearer_and_mined(
    shop_house: House, shop: Process, node: FaultProxy
) -> None:
    topup_id = await claimed(shop_house, shop)
    node.inject("eth_sendRawTransaction", Swallow())
    await shop.step(topup_id)
    await wait(shop_house, 5)
    await shop.tend()
    assert len(await shop.sent(topup_id)) == 1, "three blocks are not over yet"
    await wait(shop_house, 2)
    await shop.tend()
    node.heal()
    await wait(shop_house, 7)
    await shop.tend()
    first, second, third = await shop.sent(topup_id)
    assert first.evm_nonce == second.evm_nonce == third.evm_nonce
    assert [one.attempt for one in (first, second, third)] == [1, 2, 3]
    for before, after in ((first, second), (second, third)):
        for low, high in zip(fees_of(before), fees_of(after), strict=True):
            assert high * 8 >= low * 9
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.tx_hash) == (S.CREDITED, third.tx_hash)


async def test_a_chain_that_stands_still_makes_nothing_dearer(
    shop_house: House, shop: Process, chain: LocalChain
) -> None:
    await chain.set_automine(on=False)
    topup_id = await claimed(shop_house, shop)
    await shop.step(topup_id)
    shop_house.clock.advance(30)
    await shop.tend()
    assert len(await shop.sent(topup_id)) == 1
    await chain.mine()
    assert (await shop.settle(topup_id)).state == S.CREDITED


async def test_the_first_attempt_counts_when_it_is_mined_after_all(
    shop_house: House, shop: Process, node: FaultProxy, chain: LocalChain
) -> None:
    """Whichever attempt is mined: the payment is ours, and it is not dead."""
    topup_id = await claimed(shop_house, shop)
    node.inject("eth_sendRawTransaction", Swallow())
    await shop.step(topup_id)
    await wait(shop_house, 7)
    await shop.tend()
    first, second = await shop.sent(topup_id)
    await chain.rpc("eth_sendRawTransaction", f"0x{first.raw.hex()}")
    await chain.mine()
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.tx_hash) == (S.CREDITED, first.tx_hash)
    assert len(await shop.sent(topup_id)) == 2
    assert await receipt(chain.chain, second.tx_hash) is None


async def test_what_a_node_finds_underpriced_is_signed_again_at_once(
    shop_house: House, shop: Process, node: FaultProxy
) -> None:
    topup_id = await claimed(shop_house, shop)
    words = "replacement transaction underpriced"
    node.inject("eth_sendRawTransaction", ErrorAnswer(message=words, times=1))
    assert (await shop.step(topup_id)).state == S.SIGNED
    first, second = await shop.sent(topup_id)
    assert (second.evm_nonce, second.attempt) == (first.evm_nonce, 2)
    assert (await shop.settle(topup_id)).tx_hash == second.tx_hash


async def test_attempts_and_fees_are_bounded(
    shop_house: House, shop: Process, node: FaultProxy
) -> None:
    wallet = await Wallet(shop_house.local).fund()
    signed = await wallet.authorize(shop_house.pay_to, seconds=3000)
    topup_id = await shop.claim(signed)
    node.inject("eth_sendRawTransaction", Swallow())
    await shop.step(topup_id)
    for _ in range(15):
        await wait(shop_house, 7)
        await shop.tend()
    sent = await shop.sent(topup_id)
    assert len({one.evm_nonce for one in sent}) == 1
    assert 3 < len(sent) <= 10
    node.heal()
    assert (await shop.settle(topup_id)).state == S.CREDITED


async def test_the_next_is_not_signed_before_a_node_has_the_last(
    shop_house: House, shop: Process, node: FaultProxy
) -> None:
    first = await claimed(shop_house, shop)
    node.inject("eth_sendRawTransaction", ErrorAnswer(message="pool is full"))
    assert (await shop.step(first)).state == S.SIGNED
    second = await claimed(shop_house, shop)
    assert (await shop.step(second, times=3)).state == S.CLAIMED
    assert await shop.sent(second) == []
    node.heal()
    assert (await shop.settle(second)).state == S.CREDITED
    assert (await shop.settle(first)).state == S.CREDITED
    (one,), (two,) = await shop.sent(first), await shop.sent(second)
    assert two.evm_nonce == one.evm_nonce + 1


async def test_a_payment_cancelled_while_its_nonce_is_open_is_filled_and_ends_there(
    shop_house: House, shop: Process, node: FaultProxy, chain: LocalChain
) -> None:
    """Once it is stuck, though nothing waits behind it."""
    payer = await Wallet(chain).fund()
    signed = await payer.authorize(shop_house.pay_to)
    topup_id = await shop.claim(signed)
    node.inject("eth_sendRawTransaction", Swallow())
    await shop.step(topup_id)
    await payer.cancel(signed[0].nonce)
    node.heal()
    await wait(shop_house, 7)
    await shop.tend()
    settlement, filler = await shop.sent(topup_id)
    assert filler.kind == SentKind.FILLER
    assert (filler.evm_nonce, filler.gas_limit) == (settlement.evm_nonce, 21_000)
    await chain.mine(3)
    assert (await shop.settle(topup_id)).state == S.CANCELED
    later = await claimed(shop_house, shop)
    assert (await shop.settle(later)).state == S.CREDITED


async def test_a_filled_payment_is_signed_anew_when_it_can_succeed_again(
    shop_house: House, shop: Process, node: FaultProxy, chain: LocalChain
) -> None:
    """Its payer had moved his money away for a moment."""
    payer = await Wallet(chain).fund(DOLLAR)
    topup_id = await shop.claim(await payer.authorize(shop_house.pay_to))
    node.inject("eth_sendRawTransaction", Swallow())
    await shop.step(topup_id)
    await payer.send(b"\x77" * 20, DOLLAR)
    node.heal()
    await wait(shop_house, 7)
    await shop.tend()
    await chain.mine()
    assert (await shop.step(topup_id)).state == S.WATCH
    await payer.fund(DOLLAR)
    assert (await shop.settle(topup_id)).state == S.CREDITED
    first, filler, again = await shop.sent(topup_id)
    assert [first.kind, filler.kind, again.kind] == [
        SentKind.SETTLEMENT,
        SentKind.FILLER,
        SentKind.SETTLEMENT,
    ]
    assert again.evm_nonce == first.evm_nonce + 1


async def test_what_would_revert_by_now_is_not_sent_again(
    shop_house: House, shop: Process, node: FaultProxy, chain: LocalChain
) -> None:
    payer = await Wallet(chain).fund(DOLLAR)
    topup_id = await shop.claim(await payer.authorize(shop_house.pay_to))
    node.inject("eth_sendRawTransaction", Swallow())
    await shop.step(topup_id)
    await payer.send(b"\x77" * 20, DOLLAR)
    node.heal()
    sent_before = node.seen["eth_sendRawTransaction"]
    shop_house.clock.advance(6)
    await shop.step(topup_id, times=3)
    assert node.seen["eth_sendRawTransaction"] == sent_before


async def test_attempts_do_not_use_up_what_a_payer_has(
    shop_house: House, shop: Process, node: FaultProxy, chain: LocalChain
) -> None:
    """It is nonces that are counted: three dear attempts at one leave two."""
    topup_id = await claimed(shop_house, shop)
    node.inject("eth_sendRawTransaction", Swallow())
    await shop.step(topup_id)
    for _ in range(MOST_TRANSACTIONS):
        await wait(shop_house, 7)
        await shop.tend()
    assert len(await shop.sent(topup_id)) > MOST_TRANSACTIONS
    node.heal()
    # Somebody else uses the key, so that the nonce is lost.
    await chain.send(KEY.address, b"\x0e" * 20)
    assert (await shop.settle(topup_id)).state == S.CREDITED
    assert len({one.evm_nonce for one in await shop.sent(topup_id)}) == 2


async def test_a_next_nonce_that_is_too_high_is_lowered_by_the_next_owner(
    shop_house: House, shop: Process, chain: LocalChain
) -> None:
    first = await chain.chain.nonce(KEY.address, "latest")
    await shop.settle(await claimed(shop_house, shop))
    await shop.db.write(
        lambda session: query(
            session, "UPDATE relayer SET next_nonce = 40 RETURNING next_nonce"
        )
    )
    later = await shop_house.restart(relayers=(KEY,))
    topup_id = await claimed(shop_house, later)
    assert (await later.settle(topup_id)).state == S.CREDITED
    (sent,) = await later.sent(topup_id)
    assert sent.evm_nonce == first + 1


async def test_what_was_signed_and_never_sent_is_sent_before_anything_else(
    shop_house: House, shop: Process, node: FaultProxy
) -> None:
    """A new owner goes on with the stored bytes, though no node knows of them."""
    first = await claimed(shop_house, shop)
    node.inject("eth_sendRawTransaction", DropBefore())
    with pytest.raises(RpcUnavailable):
        await shop.step(first)
    (stored,) = await shop.sent(first)
    later = await shop_house.restart(relayers=(KEY,))
    second = await claimed(shop_house, later)
    assert (await later.settle(second)).state == S.CREDITED
    assert (await later.settle(first)).tx_hash == stored.tx_hash
    (sent,) = await later.sent(second)
    assert sent.evm_nonce == stored.evm_nonce + 1


async def test_a_hole_that_nobody_explains_is_filled(
    shop_house: House, chain: LocalChain
) -> None:
    """A node has transactions of the key that vanish later: those of a lost backup."""
    async with FaultProxy(chain.url) as node:
        node.inject("eth_getTransactionCount", Ahead(by=2, times=2))
        shop = await shop_house.start(node.url, relayers=(KEY,))
        first = await chain.chain.nonce(KEY.address, "latest")
        topup_id = await claimed(shop_house, shop)
        await shop.step(topup_id)
        (sent,) = await shop.sent(topup_id)
        assert sent.evm_nonce == first + 2
        await shop.tend()
        assert (await shop.settle(topup_id)).state == S.CREDITED
        async with shop.db.read() as session:
            rows = await query(
                session, "SELECT kind, evm_nonce FROM relayed_transaction ORDER BY 2"
            )
        assert [(row["kind"], row["evm_nonce"] - first) for row in rows] == [
            ("filler", 0),
            ("filler", 1),
            ("settlement", 2),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead(Fault):
    """The node's pool has transactions of the key that we know nothing of."""

    by: int

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        answer = await forward(request)
        if request["params"][1] != "pending":
            return answer
        return {"result": hex(int(answer["result"], 16) + self.by)}


async def test_a_node_that_is_behind_makes_no_nonce_twice(
    shop_house: House, shop: Process, chain: LocalChain
) -> None:
    first = await chain.chain.nonce(KEY.address, "latest")
    await shop.settle(await claimed(shop_house, shop))
    async with FaultProxy(chain.url) as lagging:
        lagging.inject("eth_getTransactionCount", Rewrite(change=lambda _: hex(first)))
        later = await shop_house.restart(lagging.url, relayers=(KEY,))
        topup_id = await claimed(shop_house, later)
        await later.step(topup_id, times=2)
        (sent,) = await later.sent(topup_id)
        assert sent.evm_nonce == first + 1
        lagging.heal()
        assert (await later.settle(topup_id)).state == S.CREDITED


async def test_faults_at_a_third_of_the_broadcasts_leave_no_gap(
    shop_house: House, shop: Process, node: FaultProxy, chain: LocalChain
) -> None:
    first = await chain.chain.nonce(KEY.address, "latest")
    for fault in (
        DropBefore(probability=0.1),
        ErrorAnswer(probability=0.12, message="pool is full"),
        Swallow(probability=0.14),
    ):
        node.inject("eth_sendRawTransaction", fault)
    topup_ids = [await claimed(shop_house, shop) for _ in range(24)]
    for _ in range(60):
        await shop.settle_due()
        shop_house.clock.advance(1)
        await chain.advance(1)
        await shop.tend()
        states = [(await shop.topup(one)).state for one in topup_ids]
        if set(states) == {S.CREDITED}:
            break
    assert set(states) == {S.CREDITED}
    sent = [row for one in topup_ids for row in await shop.sent(one)]
    require_gapless(sent, first)
    assert len({one.evm_nonce for one in sent}) == 24
    assert await chain.chain.nonce(KEY.address, "latest") == first + 24


async def test_the_answer_that_was_lost_does_not_stop_the_key(
    shop_house: House, shop: Process, node: FaultProxy
) -> None:
    """No node told that it has the nonce, and the payment is credited meanwhile."""
    first = await claimed(shop_house, shop)
    node.inject("eth_sendRawTransaction", DropAfter(times=1))
    with pytest.raises(RpcUnavailable):
        await shop.step(first)
    assert (await shop.settle(first)).state == S.CREDITED
    second = await claimed(shop_house, shop)
    assert (await shop.settle(second)).state == S.CREDITED
    assert len(await shop.sent(first)) == 1, "nothing was to be filled"
