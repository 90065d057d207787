"""Nodes that lie about how many transactions a relayer's key has sent."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from sqlmodel import col, select
from structlog.testing import capture_logs

from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.fault import FaultProxy, Rewrite
from tallystick.chain.local import LocalChain
from tallystick.payments.models.topups import RelayedTransaction, SentKind, TopUpState
from tallystick.payments.rail import Witness
from tallystick.payments.relaying.nonces import learn_nonces
from tallystick.payments.sequences import WIDEST_HOLE
from tests.house import House, Process, Wallet, relayer

S = TopUpState
KEY = relayer(7)
COUNT = "eth_getTransactionCount"
FAR = 1_000


def more(by: int) -> Rewrite:
    return Rewrite(change=lambda count: hex(int(count, 16) + by))


@dataclass
class Scene:
    """A house whose node is a proxy that can lie, and a key that was used before."""

    house: House
    node: FaultProxy
    first: int

    async def start(self, *more_urls: str, **more_values: object) -> Process:
        urls = (self.node.url, *more_urls)
        return await self.house.restart(*urls, relayers=(KEY,), **more_values)

    async def claim(self, process: Process) -> int:
        wallet = await Wallet(self.house.local).fund()
        return await process.claim(await wallet.authorize(self.house.pay_to))

    async def pays(self, process: Process) -> int:
        """The nonce at which one more payment was settled."""
        topup_id = await self.claim(process)
        topup = await process.settle(topup_id)
        assert topup.state == S.CREDITED
        found = [
            one for one in await process.sent(topup_id) if one.tx_hash == topup.tx_hash
        ]
        return found[0].evm_nonce

    async def mined(self) -> int:
        return await self.house.local.chain.nonce(KEY.address, "latest")


@pytest.fixture
async def local() -> AsyncIterator[LocalChain]:
    """One whose clock may be moved together with ours."""
    async with LocalChain() as fresh:
        yield fresh


@pytest.fixture
async def scene(
    any_house: House, local: LocalChain, proxy: FaultProxy
) -> AsyncIterator[Scene]:
    """The key has sent more than a hole that we would fill."""
    while await local.chain.nonce(KEY.address, "latest") <= 2 * WIDEST_HOLE:
        await local.send(KEY.address, b"\x0e" * 20)
    first = await local.chain.nonce(KEY.address, "latest")
    yield Scene(any_house, proxy, first)
    pending = await local.chain.nonce(KEY.address, "pending")
    assert pending == await local.chain.nonce(KEY.address, "latest")


async def sent_by(process: Process) -> list[RelayedTransaction]:
    query = select(RelayedTransaction).order_by(col(RelayedTransaction.evm_nonce))
    async with process.db.read() as session:
        return list((await session.exec(query)).all())


async def test_what_was_signed_behind_a_lie_is_signed_again_once_it_ends(
    scene: Scene,
) -> None:
    """One node and no witness: nobody contradicts it while it lasts."""
    scene.node.inject(COUNT, more(FAR))
    process = await scene.start()
    topup_id = await scene.claim(process)
    assert (await process.step(topup_id)).state == S.SIGNED
    (stranded,) = await process.sent(topup_id)
    assert stranded.evm_nonce == scene.first + FAR
    scene.node.heal()
    with capture_logs() as logs:
        await process.tend()
    (told,) = [one for one in logs if one["event"] == "relayer_stepped_back"]
    assert (told["after"], told["log_level"]) == (scene.first, "error")
    assert (await process.settle(topup_id)).state == S.CREDITED
    again = max(await process.sent(topup_id), key=lambda one: one.signed_at_ms)
    assert again.evm_nonce == scene.first
    assert await scene.pays(process) == scene.first + 1
    kinds = {one.kind for one in await sent_by(process)}
    assert kinds == {SentKind.SETTLEMENT}, "no thousand fillers"
    later = await scene.start()
    assert await scene.pays(later) == scene.first + 2


async def test_a_new_owner_does_not_believe_what_was_signed_behind_a_lie(
    scene: Scene,
) -> None:
    scene.node.inject(COUNT, more(FAR))
    process = await scene.start()
    topup_id = await scene.claim(process)
    await process.step(topup_id)
    scene.node.heal()
    later = await scene.start()
    assert await scene.pays(later) == scene.first
    assert (await later.settle(topup_id)).state == S.CREDITED


async def test_a_lie_that_is_told_once_is_not_believed(scene: Scene) -> None:
    scene.node.inject(
        COUNT, Rewrite(change=lambda count: hex(int(count, 16) + FAR), times=2)
    )
    process = await scene.start()
    assert await scene.pays(process) == scene.first


async def test_with_a_witness_or_a_second_node_the_lie_is_never_believed(
    scene: Scene, local: LocalChain
) -> None:
    scene.node.inject(COUNT, more(FAR))
    witness = Witness(local.open_chain(), above=10**12)
    with capture_logs() as logs:
        process = await scene.start(witness=witness)
        assert await scene.pays(process) == scene.first
        await process.tend()
        assert await scene.pays(process) == scene.first + 1
    events = [one["event"] for one in logs]
    assert "relayer_count_contradicted" in events
    assert "relayer_stepped_back" not in events
    later = await scene.start(local.url)
    assert await scene.pays(later) == scene.first + 2


async def test_while_the_witness_is_silent_a_count_that_is_news_is_not_followed(
    scene: Scene, local: LocalChain
) -> None:
    async with FaultProxy(local.url) as far:
        witness = Witness(local.open_chain(far.url), above=10**12)
        process = await scene.start(witness=witness)
        assert await scene.pays(process) == scene.first
        await far.down()
        scene.node.inject(COUNT, more(FAR))
        with pytest.raises(RpcUnavailable):
            await process.tend()
        topup_id = await scene.claim(process)
        assert (await process.settle(topup_id)).state == S.CREDITED, "by what we know"
        (sent,) = await process.sent(topup_id)
        assert sent.evm_nonce == scene.first + 1
        await far.up()
        await local.send(KEY.address, b"\x0e" * 20)
        scene.node.heal()
        await process.tend()
        assert await scene.pays(process) == scene.first + 3, "it was used elsewhere"


async def test_a_witness_that_stands_still_says_nothing(
    scene: Scene, local: LocalChain
) -> None:
    """Its count is old and true; by it used nonces would be signed again."""
    async with FaultProxy(local.url) as far:
        old = Rewrite(change=lambda block: block | {"timestamp": "0x1"})
        far.inject("eth_getBlockByNumber", old)
        far.inject(COUNT, Rewrite(change=lambda _: "0x0"))
        witness = Witness(local.open_chain(far.url), above=10**12)
        with pytest.raises(RpcUnavailable):
            await scene.start(witness=witness)
        process = await scene.start(far.url)
        assert await scene.pays(process) == scene.first


async def test_a_count_below_what_our_own_receipts_show_is_not_believed(
    scene: Scene,
) -> None:
    process = await scene.start()
    for offset in range(2):
        assert await scene.pays(process) == scene.first + offset
    scene.node.inject(COUNT, Rewrite(change=lambda _: "0x1"))
    with pytest.raises(RpcUnavailable, match="counts fewer"):
        await process.tend()
    signed = await sent_by(process)
    assert len(signed) == 2, "nothing is signed again, and no hole is filled"
    assert await scene.pays(process) == scene.first + 2, "by what we know"
    with pytest.raises(RpcUnavailable, match="counts fewer"):
        await scene.start()
    scene.node.heal()
    later = await scene.start()
    await later.tend()
    assert await scene.pays(later) == scene.first + 3
    assert await scene.mined() == scene.first + 4


async def test_a_count_that_is_too_low_makes_nothing_dearer(scene: Scene) -> None:
    """What is mined looks open and stuck; its receipts say what it is."""
    process = await scene.start()
    for offset in range(3):
        assert await scene.pays(process) == scene.first + offset
    scene.node.inject(COUNT, more(-3))
    scene.house.clock.advance(120)
    await scene.house.local.advance(120)
    for _ in range(3):
        await process.tend()
    assert len(await sent_by(process)) == 3
    scene.node.heal()
    assert await scene.pays(process) == scene.first + 3


async def test_a_count_that_is_a_little_too_low_changes_nothing(scene: Scene) -> None:
    process = await scene.start()
    for offset in range(3):
        assert await scene.pays(process) == scene.first + offset
    scene.node.inject(COUNT, more(-2))
    later = await scene.start()
    topup_id = await scene.claim(later)
    await later.step(topup_id)
    (sent,) = await later.sent(topup_id)
    assert sent.evm_nonce == scene.first + 3
    await later.tend()
    scene.node.heal()
    assert (await later.settle(topup_id)).state == S.CREDITED
    assert len(await later.sent(topup_id)) == 1


async def test_the_key_passes_by_what_it_signed_too_far_ahead(scene: Scene) -> None:
    """Further than a hole that is filled, and near enough to be reached."""
    far = WIDEST_HOLE + 1
    scene.node.inject(COUNT, more(far))
    process = await scene.start()
    stranded = await scene.claim(process)
    await process.step(stranded)
    scene.node.heal()
    await process.tend()
    assert (await process.settle(stranded)).state == S.CREDITED
    used = [await scene.pays(process) for _ in range(far - 1)]
    assert used == [scene.first + 1 + one for one in range(far - 1)]
    topup_id = await scene.claim(process)
    await process.step(topup_id)
    await process.tend()
    assert (await process.settle(topup_id)).state == S.CREDITED
    await process.tend()
    rows = {one.evm_nonce for one in await sent_by(process)}
    assert await scene.mined() == max(rows) + 1
    assert sorted(rows) == list(range(scene.first, max(rows) + 1)), "without a gap"


async def test_who_has_no_lease_learns_nothing(scene: Scene) -> None:
    process = await scene.start()
    await process.let_go()
    await learn_nonces(process.db, process.rail, KEY)
    assert not process.rail.sequence(KEY).is_known
