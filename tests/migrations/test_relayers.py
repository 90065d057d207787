"""What was signed before there were leases and dearer attempts keeps all it says."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.exc import IntegrityError
from tests.house import House, Wallet, relayer

from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import open_database, query
from tallystick.migrations import downgrade, upgrade
from tallystick.payments.models.topups import RelayedTransaction, TopUpState

KEY = relayer(5)


@pytest.fixture
async def shops(
    local: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    head = await local.chain.block("latest")
    assert head is not None
    made = House(local, database_url, head.number + 1, clock)
    yield made
    await made.stop()


async def test_sent_transactions_keep_their_fees_and_nonces_go_on(
    shops: House, local: LocalChain
) -> None:
    shop = await shops.start(relayers=(KEY,))
    sent: list[RelayedTransaction] = []
    for _ in range(3):
        wallet = await Wallet(local).fund()
        topup_id = await shop.claim(await wallet.authorize(shops.pay_to))
        await shop.settle(topup_id)
        sent += await shop.sent(topup_id)
    assert len({one.max_fee_per_gas for one in sent} | {0}) > 1
    await shop.close()

    db = open_database(shops.database_url, shops.clock)
    await downgrade(db, "0013")
    await upgrade(db)
    await db.close()

    later = await shops.start(relayers=(KEY,))
    again = [row for one in sent for row in await later.sent(one.topup_id or 0)]
    assert [one.model_dump() for one in again] == [one.model_dump() for one in sent]
    wallet = await Wallet(local).fund()
    topup_id = await later.claim(await wallet.authorize(shops.pay_to))
    assert (await later.settle(topup_id)).state == TopUpState.CREDITED
    (newest,) = await later.sent(topup_id)
    assert newest.evm_nonce == sent[-1].evm_nonce + 1


async def test_only_a_filler_may_belong_to_no_payment(
    shops: House, local: LocalChain
) -> None:
    shop = await shops.start(relayers=(KEY,))
    wallet = await Wallet(local).fund()
    await shop.settle(await shop.claim(await wallet.authorize(shops.pay_to)))

    change = "UPDATE relayed_transaction SET topup_id = NULL RETURNING attempt"
    with pytest.raises(IntegrityError, match="topup"):
        await shop.db.write(lambda session: query(session, change))
    await shop.db.write(
        lambda session: query(
            session, "UPDATE relayed_transaction SET kind = 'filler' RETURNING attempt"
        )
    )
    await shop.db.write(lambda session: query(session, change))
    await downgrade(shop.db, "0013")
    async with shop.db.read() as session:
        assert await query(session, "SELECT 1 FROM relayed_transaction") == []
