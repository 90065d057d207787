"""One owner for each relayer key: whoever lost it signs nothing more."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import query
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.relaying.leases import keep_leases
from tallystick.payments.relaying.nonces import register_relayers
from tallystick.payments.relaying.pushing import push_keys
from tallystick.payments.relaying.relayer import relayer_for, sign
from tallystick.payments.settler import step
from tallystick.workers.crew import Crew
from tallystick.workers.settling import begin_due
from tests.house import HOLD_SECONDS, LEASE_SECONDS, House, Process, Wallet, relayer
from tests.postgres import PostgresServer

S = TopUpState
KEY = relayer(3)


@pytest.fixture
async def shared(
    local: LocalChain, postgres: PostgresServer, clock: OffsetClock
) -> AsyncIterator[House]:
    """An installation on PostgreSQL, for several processes at once."""
    name = await postgres.create_database()
    head = await local.chain.block("latest")
    assert head is not None
    made = House(local, postgres.url(name), head.number + 1, clock)
    try:
        yield made
        auditor = await made.start(relayers=())
        assert (await auditor.audit()).findings == []
    finally:
        await made.stop()
        await postgres.drop_database(name)


async def claimed(house: House, shop: Process) -> int:
    wallet = await Wallet(house.local).fund()
    return await shop.claim(await wallet.authorize(house.pay_to))


async def look(shop: Process, topup_id: int) -> TopUpState:
    """A look without renewing any lease, as by a process that was paused."""
    await step(shop.db, shop.rail, topup_id, hold_seconds=HOLD_SECONDS)
    return TopUpState((await shop.topup(topup_id)).state)


def owns(shop: Process) -> bool:
    return shop.rail.sequence(KEY).is_ours


async def fences(shop: Process) -> list[int]:
    async with shop.db.read() as session:
        rows = await query(session, "SELECT fence FROM relayer ORDER BY address")
    return [row["fence"] for row in rows]


async def test_the_first_process_has_the_key_and_the_second_signs_nothing(
    shared: House,
) -> None:
    one = await shared.start(relayers=(KEY,))
    two = await shared.start(relayers=(KEY,))
    assert owns(one)
    assert not owns(two)
    topup_id = await claimed(shared, two)
    assert (await two.step(topup_id, times=3)).state == S.CLAIMED
    assert (await one.step(topup_id)).state == S.SIGNED
    assert (await two.settle(topup_id)).state == S.CREDITED, "but it credits"


async def test_who_cannot_sign_leaves_the_turn_to_who_can(shared: House) -> None:
    one = await shared.start(relayers=(KEY,))
    two = await shared.start(relayers=(KEY,))
    topup_id = await claimed(shared, two)
    assert await two.settle_due() == 0
    assert await one.settle_due() == 1
    assert (await one.topup(topup_id)).state in {S.SIGNED, S.CREDITED}


async def test_what_nobody_signs_is_looked_at_after_a_while_all_the_same(
    shared: House, local: LocalChain
) -> None:
    """Its window has closed, or its money has come by another way."""
    one = await shared.start(relayers=(KEY,))
    two = await shared.start(relayers=(KEY,))
    topup_id = await claimed(shared, one)
    await local.advance(120)
    assert await two.settle_due() == 0
    # The owner stands still, but its lease is not over.
    shared.clock.advance(LEASE_SECONDS - 2)
    await keep_leases(one.db, one.rail)
    shared.clock.advance(3)
    assert await two.settle_due() == 1
    assert (await two.topup(topup_id)).state == S.EXPIRED


async def test_each_process_takes_the_keys_that_are_free(shared: House) -> None:
    other = relayer(4)
    one = await shared.start(relayers=(KEY,))
    two = await shared.start(relayers=(KEY, other))
    assert [two.rail.sequence(each).is_ours for each in (KEY, other)] == [False, True]
    topup_ids = [await claimed(shared, two) for _ in range(4)]
    for topup_id in topup_ids:
        assert (await two.settle(topup_id)).state == S.CREDITED
        (sent,) = await two.sent(topup_id)
        assert sent.relayer == other.address
    assert owns(one)


async def test_a_key_is_free_at_once_after_an_orderly_stop(shared: House) -> None:
    one = await shared.start(relayers=(KEY,))
    two = await shared.start(relayers=(KEY,))
    before = await fences(two)
    await one.let_go()
    assert not owns(one)
    await register_relayers(two.db, two.rail)
    assert owns(two)
    (fence,), (after,) = before, await fences(two)
    assert after == fence + 1
    topup_id = await claimed(shared, two)
    assert (await two.settle(topup_id)).state == S.CREDITED


async def test_a_paused_owner_that_wakes_up_signs_nothing(shared: House) -> None:
    """It does not know yet that its lease is over."""
    paused = await shared.start(relayers=(KEY,))
    topup_id = await claimed(shared, paused)
    shared.clock.advance(LEASE_SECONDS + 1)
    assert owns(paused), "so it believes"
    assert await look(paused, topup_id) == S.CLAIMED
    assert await paused.sent(topup_id) == []


async def test_a_paused_owner_cannot_store_under_its_successors_lease(
    shared: House,
) -> None:
    """The fence, not the clock, is what keeps it out."""
    paused = await shared.start(relayers=(KEY,))
    topup_id = await claimed(shared, paused)
    shared.clock.advance(LEASE_SECONDS + 1)
    heir = await shared.start(relayers=(KEY,))
    assert owns(heir)
    # Its clock is behind as well: by it the lease would be in force.
    paused.db.clock.correct(before_ms=0, shared_ms=-60_000, after_ms=0)
    topup = await paused.topup(topup_id)
    key = relayer_for(paused.rail, topup)
    assert key is not None
    assert await sign(paused.db, paused.rail, key, topup) is None
    assert not owns(paused), "now it knows"
    assert (await heir.settle(topup_id)).state == S.CREDITED
    assert len(await heir.sent(topup_id)) == 1


async def test_a_fence_from_before_a_loss_and_a_return_is_no_good(
    shared: House,
) -> None:
    """The same process, two leases: what was signed under the first is not stored."""
    one = await shared.start(relayers=(KEY,))
    topup_id = await claimed(shared, one)
    sequence = one.rail.sequence(KEY)
    old = sequence.fence
    shared.clock.advance(LEASE_SECONDS + 1)
    two = await shared.start(relayers=(KEY,))
    await two.let_go()
    await register_relayers(one.db, one.rail)
    assert (sequence.fence or 0) > (old or 0)
    sequence.fence = old
    topup = await one.topup(topup_id)
    assert await sign(one.db, one.rail, KEY, topup) is None
    assert await one.sent(topup_id) == []


async def test_the_owner_may_come_back_to_its_own_lease(shared: House) -> None:
    """Nobody wanted the key meanwhile."""
    one = await shared.start(relayers=(KEY,))
    before = await fences(one)
    topup_id = await claimed(shared, one)
    shared.clock.advance(LEASE_SECONDS + 1)
    await keep_leases(one.db, one.rail)
    assert await fences(one) == before
    assert await look(one, topup_id) == S.SIGNED


async def test_a_nonce_that_is_not_the_next_any_more_is_not_signed(
    any_house: House,
) -> None:
    local = any_house.local
    sent = await local.chain.nonce(KEY.address, "latest")
    # So that there is one before it, also on a chain where the key was never used.
    await local.rpc("anvil_setNonce", f"0x{KEY.address.hex()}", hex(sent + 1))
    shop = await any_house.start(relayers=(KEY,))
    topup_id = await claimed(any_house, shop)
    shop.rail.sequence(KEY).next_nonce -= 1
    topup = await shop.topup(topup_id)
    assert await sign(shop.db, shop.rail, KEY, topup) is None
    assert await shop.sent(topup_id) == []
    assert (await shop.settle(topup_id)).state == S.CREDITED, "it learns the right one"


async def test_a_lease_from_the_future_does_not_lock_the_key_away(
    shared: House,
) -> None:
    """The database's clock has stepped back by an hour."""
    shared.clock.advance(3600)
    await shared.start(relayers=(KEY,))
    shared.clock.advance(-3600)
    assert owns(await shared.start(relayers=(KEY,)))


async def test_on_sqlite_a_new_process_need_not_wait(house: House) -> None:
    """A file has one owner, so whoever had the key is dead."""
    await house.start(relayers=(KEY,))
    shop = await house.start(relayers=(KEY,))
    topup_id = await claimed(house, shop)
    assert (await shop.step(topup_id)).state == S.SIGNED


async def test_two_processes_in_turn_use_no_nonce_twice_and_leave_none_out(
    shared: House, local: LocalChain
) -> None:
    """The owner changes every few payments, in the middle of what is under way."""
    first = await local.chain.nonce(KEY.address, "latest")
    shops = [await shared.start(relayers=(KEY,)) for _ in range(2)]
    topup_ids = [await claimed(shared, shops[0]) for _ in range(12)]
    for turn in range(12):
        shop = shops[turn % 2]
        await register_relayers(shop.db, shop.rail)
        crew = Crew(2)
        await begin_due(shop.db, shop.rail, crew, hold_seconds=HOLD_SECONDS)
        await asyncio.gather(crew.all_end(), shop.let_go())
    for topup_id in topup_ids:
        await register_relayers(shops[0].db, shops[0].rail)
        assert (await shops[0].settle(topup_id)).state == S.CREDITED
    sent = [row for one in topup_ids for row in await shops[0].sent(one)]
    assert sorted(row.evm_nonce for row in sent) == list(range(first, first + 12))


async def test_a_paused_owner_makes_nothing_dearer_and_fills_nothing(
    shared: House, local: LocalChain
) -> None:
    """It believes that the nonce is stuck, and has lost the key."""
    paused = await shared.start(relayers=(KEY,))
    topup_id = await claimed(shared, paused)
    topup = await paused.topup(topup_id)
    assert await sign(paused.db, paused.rail, KEY, topup) is not None
    shared.clock.advance(LEASE_SECONDS + 1)
    await local.advance(LEASE_SECONDS + 1)
    heir = await shared.start(relayers=(KEY,))
    await push_keys(paused.db, paused.rail)
    assert len(await heir.sent(topup_id)) == 1
    assert (await heir.settle(topup_id)).state == S.CREDITED
