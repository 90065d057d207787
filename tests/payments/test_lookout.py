"""Who waits for a top-up learns what another process did, at the price of one look."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from tallystick.chain.local import LocalChain
from tallystick.kernel.db import Database
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.purchase import wait_for
from tests.house import DOLLAR, House, Process, Wallet

_POLL = 0.2


async def _waiting(shop: Process, topup_id: int, seconds: float) -> TopUp:
    return await wait_for(shop.db, shop.rail, topup_id, int(seconds * 1000))


@contextmanager
def _reads(db: Database) -> Iterator[list[str]]:
    """The statements about top-ups that the process reads by."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, sql: str, *_more: object) -> None:
        if "FROM topup" in sql:
            seen.append(sql)

    event.listen(db.reader.sync_engine, "before_cursor_execute", note)
    yield seen
    event.remove(db.reader.sync_engine, "before_cursor_execute", note)


async def test_what_another_process_credits_is_told_to_all_who_wait(
    any_house: House, wallet: Wallet
) -> None:
    front = await any_house.start(relayers=(), poll_seconds=_POLL)
    worker = await any_house.start()
    topup_id = await worker.claim(await wallet.authorize(any_house.pay_to, DOLLAR))
    waits = [asyncio.create_task(_waiting(front, topup_id, 30)) for _ in range(5)]
    await asyncio.sleep(0)
    assert (await worker.settle(topup_id)).state == TopUpState.CREDITED
    async with asyncio.timeout(5):
        told = await asyncio.gather(*waits)
    assert {one.state for one in told} == {TopUpState.CREDITED}


async def test_many_who_wait_cost_one_look_at_a_time(
    house: House, local: LocalChain
) -> None:
    """Else a crowd that waits for the chain would keep the database busy."""
    shop = await house.start(poll_seconds=_POLL)
    wallets = [await Wallet(local).fund() for _ in range(20)]
    claimed = [
        await shop.claim(await one.authorize(house.pay_to, DOLLAR)) for one in wallets
    ]
    with _reads(shop.db) as seen:
        told = await asyncio.gather(*(_waiting(shop, one, 1.1) for one in claimed))
    assert {one.state for one in told} == {TopUpState.CLAIMED}
    of_each = 2 * len(claimed)
    assert len(seen) <= of_each + 1.1 / _POLL + 1
    assert len(seen) > of_each, "nobody looked meanwhile"
    for one in claimed:
        assert (await shop.settle(one)).state == TopUpState.CREDITED


async def test_newcomers_do_not_put_off_the_look(house: House, wallet: Wallet) -> None:
    front = await house.start(poll_seconds=_POLL)
    worker = await house.start()
    topup_id = await front.claim(await wallet.authorize(house.pay_to, DOLLAR))
    other = await Wallet(wallet.local).fund()
    open_id = await front.claim(await other.authorize(house.pay_to, DOLLAR))
    waits = asyncio.create_task(_waiting(front, topup_id, 30))
    await worker.settle(topup_id)
    crowd = []
    async with asyncio.timeout(5):
        while not waits.done():
            crowd.append(asyncio.create_task(_waiting(front, open_id, 0.5)))
            await asyncio.sleep(_POLL / 10)
    assert waits.result().state == TopUpState.CREDITED
    await asyncio.gather(*crowd)
    await worker.settle(open_id)


async def test_nobody_waits_longer_than_he_was_to(house: House, wallet: Wallet) -> None:
    shop = await house.start(poll_seconds=60)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to, DOLLAR))
    async with asyncio.timeout(5):
        told = await _waiting(shop, topup_id, 0.1)
    assert told.state == TopUpState.CLAIMED
    await shop.settle(topup_id)
