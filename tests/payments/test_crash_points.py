"""A process dies between any two steps; the next one goes on.

The first process is simply left alone at the crash point. The second has nothing but
the database and the chain.
"""

import shutil
from pathlib import Path

import pytest
from sqlmodel import select

from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.evidence import transfers_to
from tallystick.chain.fault import DropAfter, DropBefore, FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.claims.models import Claim
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.observing.following import cursor_of
from tallystick.payments.observing.matching import book
from tallystick.payments.relaying.relayer import relayer_for, sign
from tests.house import (
    DOLLAR,
    HOLD_SECONDS,
    RATE,
    House,
    Process,
    Wallet,
    relayer,
)
from tests.strangers import submit

S = TopUpState


async def require_credited_once(shop: Process, wallet: Wallet, topup_id: int) -> None:
    assert (await shop.settle(topup_id)).state == S.CREDITED
    await shop.observe()
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    assert len(await shop.sent(topup_id)) == 1


async def test_an_outage_before_the_claim_leaves_nothing_behind(
    any_house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    shop = await any_house.start(proxy.url)
    proxy.inject("*", DropBefore())
    with pytest.raises(RpcUnavailable):
        await shop.claim(await wallet.authorize(any_house.pay_to))
    async with shop.db.read() as session:
        assert (await session.exec(select(Claim))).all() == []


async def test_after_the_claim(any_house: House, wallet: Wallet) -> None:
    dead = await any_house.start()
    topup_id = await dead.claim(await wallet.authorize(any_house.pay_to))
    shop = await any_house.restart()
    assert await shop.settle_due() == 1, "the settler finds it by itself"
    await require_credited_once(shop, wallet, topup_id)


async def test_after_signing_before_sending(any_house: House, wallet: Wallet) -> None:
    dead = await any_house.start()
    topup_id = await dead.claim(await wallet.authorize(any_house.pay_to))
    topup = await dead.topup(topup_id)
    key = relayer_for(dead.rail, topup)
    assert key is not None
    assert await sign(dead.db, dead.rail, key, topup)
    shop = await any_house.restart()
    (stored,) = await shop.sent(topup_id)
    await require_credited_once(shop, wallet, topup_id)
    assert (await shop.topup(topup_id)).tx_hash == stored.tx_hash


async def test_the_answer_to_the_broadcast_is_lost(
    any_house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    """A12: the payer is debited, and the node never said so."""
    dead = await any_house.start(proxy.url)
    topup_id = await dead.claim(await wallet.authorize(any_house.pay_to))
    proxy.inject("eth_sendRawTransaction", DropAfter())
    with pytest.raises(RpcUnavailable):
        await dead.step(topup_id)
    shop = await any_house.restart()
    await require_credited_once(shop, wallet, topup_id)


async def test_the_broadcast_never_arrived(
    any_house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    dead = await any_house.start(proxy.url)
    topup_id = await dead.claim(await wallet.authorize(any_house.pay_to))
    proxy.inject("eth_sendRawTransaction", DropBefore())
    with pytest.raises(RpcUnavailable):
        await dead.step(topup_id)
    shop = await any_house.restart()
    await require_credited_once(shop, wallet, topup_id)


async def test_mined_before_the_credit(any_house: House, wallet: Wallet) -> None:
    dead = await any_house.start()
    topup_id = await dead.claim(await wallet.authorize(any_house.pay_to))
    assert (await dead.step(topup_id)).state == S.SIGNED
    shop = await any_house.restart()
    await require_credited_once(shop, wallet, topup_id)


async def test_the_answer_to_the_client_is_lost(house: House, wallet: Wallet) -> None:
    dead = await house.start()
    signed = await wallet.authorize(house.pay_to)
    topup_id = await dead.claim(signed)
    await dead.settle(topup_id)
    shop = await house.start()
    assert await shop.claim(signed) == topup_id, "the same header, the same top-up"
    await require_credited_once(shop, wallet, topup_id)


async def test_the_observer_dies_before_it_notes_how_far_it_came(
    any_house: House, wallet: Wallet, local: LocalChain
) -> None:
    dead = await any_house.start()
    await wallet.send(any_house.pay_to, DOLLAR)
    signed = await wallet.authorize(any_house.pay_to)
    topup_id = await dead.claim(signed)
    await submit(local, signed)
    head, first = await dead.rail.head(), dead.rail.start_block
    assert first is not None
    seen = await transfers_to(dead.rail.chain, any_house.pay_to, first, head.number)
    assert len(seen) == 2
    cursor = await cursor_of(dead.db, dead.rail)
    for one in seen:
        await book(
            dead.db, dead.rail, RATE, one, hold_seconds=HOLD_SECONDS, after=cursor
        )
    shop = await any_house.restart()
    assert await shop.observe() == 2, "it reads the same blocks once more"
    assert (await shop.topup(topup_id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_yesterdays_database_finds_its_money_again(
    house: House, wallet: Wallet
) -> None:
    """The chain restores top-ups, and the nonces go on where they are."""
    shop = await house.start()
    path = Path(house.database_url.removeprefix("sqlite+aiosqlite:///"))
    backup = path.with_suffix(".backup")
    await shop.settle(await shop.claim(await wallet.authorize(house.pay_to)))
    await shop.close()
    shutil.copy(path, backup)
    after_backup = await wallet.authorize(house.pay_to)
    lost = await house.start()
    await lost.settle(await lost.claim(after_backup))
    assert await lost.credits_of(wallet) == 20 * DOLLAR
    await lost.close()
    for leftover in path.parent.glob(f"{path.name}-*"):
        leftover.unlink()
    shutil.copy(backup, path)

    restored = await house.start()
    await restored.observe()
    assert await restored.credits_of(wallet) == 10 * DOLLAR, "the other is suspended"
    again = await restored.claim(after_backup)
    assert (await restored.settle(again)).state == S.CREDITED
    assert await restored.credits_of(wallet) == 20 * DOLLAR
    assert await restored.sent(again) == [], "it was settled before the restore"
    later = await restored.claim(await wallet.authorize(house.pay_to))
    assert (await restored.settle(later)).state == S.CREDITED
    assert len(await restored.sent(later)) == 1, "no nonce was used twice"


async def test_another_key_goes_on_when_the_first_is_gone(
    house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """What was signed never arrived, its nonce was used, and the key is lost."""
    first = relayer(2)
    dead = await house.start(proxy.url, relayers=(first,))
    topup_id = await dead.claim(await wallet.authorize(house.pay_to))
    proxy.inject("eth_sendRawTransaction", DropBefore())
    with pytest.raises(RpcUnavailable):
        await dead.step(topup_id)
    await local.send(first.address, b"\x0e" * 20)
    shop = await house.start(relayers=(relayer(3),))
    assert (await shop.settle(topup_id)).state == S.CREDITED
    used = [row.relayer for row in await shop.sent(topup_id)]
    assert used == [first.address, relayer(3).address]
    assert await shop.credits_of(wallet) == 10 * DOLLAR
