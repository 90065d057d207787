"""Two at once, processes that die, blocks that are replaced: money goes back once."""

import asyncio
import sqlite3
from collections.abc import Awaitable
from pathlib import Path

import pytest
from sqlmodel import select

from tallystick.kernel.errors import TallystickError
from tallystick.ledger import chart
from tallystick.ledger.errors import InsufficientCredits
from tallystick.payments.models.chain import ChainOutflow
from tallystick.payments.models.paybacks import PaybackState
from tallystick.payments.models.topups import TopUp
from tallystick.payments.paybacks.errors import NothingToPayBack, PaybackNotReady
from tallystick.payments.paybacks.issuing import (
    hand_out,
    pay_from_float_key,
    put_in_batch,
    take_signature,
)
from tallystick.payments.paybacks.paying import pay_out
from tallystick.payments.paybacks.proposing import approve
from tallystick.payments.paybacks.terms import safe_batch
from tallystick.payments.rail import Relayer
from tests.house import DOLLAR, House, Wallet
from tests.payments.paybacks.scenes import CREDIT, RULES, Shop

S = PaybackState


async def outcomes(*works: Awaitable[object]) -> tuple[list[object], list[Exception]]:
    """What they came to, all at once; only what we expect may be refused."""
    found = await asyncio.gather(*works, return_exceptions=True)
    refused = [one for one in found if isinstance(one, Exception)]
    assert all(isinstance(one, TallystickError) for one in refused), refused
    return [one for one in found if not isinstance(one, BaseException)], refused


async def another(shop: Shop, house: House, key: Relayer) -> Shop:
    """A second process on the same books, with the same key."""
    process = await house.start(paybacks=RULES, float_key=key)
    return Shop(process, shop.local, shop.seller)


async def test_of_many_proposals_at_once_one_gets_what_is_unused(
    any_shop: Shop, wallet: Wallet
) -> None:
    topup = await any_shop.bought(wallet)
    done, refused = await outcomes(*(any_shop.propose(topup) for _ in range(8)))
    assert len(done) == 1
    assert {type(one) for one in refused} == {NothingToPayBack}
    assert await any_shop.process.credits_of(wallet) == 0


async def test_parts_that_are_proposed_at_once_never_exceed_the_whole(
    any_shop: Shop, wallet: Wallet
) -> None:
    topup = await any_shop.bought(wallet)
    done, _ = await outcomes(*(any_shop.propose(topup, 20 * CREDIT) for _ in range(5)))
    assert len(done) == 2
    assert await any_shop.process.credits_of(wallet) == 10 * CREDIT


async def test_what_is_spent_meanwhile_does_not_go_back(
    any_shop: Shop, wallet: Wallet
) -> None:
    """Calls of ten credits, and a proposal of all: whoever comes first."""
    topup = await any_shop.bought(wallet)
    spends = (any_shop.spend(topup, 10 * CREDIT) for _ in range(4))
    found = await asyncio.gather(
        *spends, any_shop.propose(topup), return_exceptions=True
    )
    payback = found.pop()
    assert not isinstance(payback, BaseException)
    refused = [one for one in found if one is not None]
    assert all(isinstance(one, InsufficientCredits) for one in refused)
    spent = (len(found) - len(refused)) * 10 * CREDIT
    left = await any_shop.process.credits_of(wallet)
    assert spent + payback.credits + left == 50 * CREDIT


async def test_of_cancelling_and_letting_the_float_pay_one_wins(
    any_shop: Shop, wallet: Wallet
) -> None:
    topup = await any_shop.bought(wallet)
    db, rail = any_shop.process.db, any_shop.process.rail
    for _ in range(3):
        payback = await any_shop.propose(topup, 10 * CREDIT)
        await pay_from_float_key(db, rail, payback.id, "ann")
        await asyncio.gather(
            outcomes(any_shop.cancel(payback)),
            outcomes(any_shop.cancel(payback)),
            pay_out(db, rail),
        )
        await any_shop.finalized()
        now = await any_shop.payback(payback)
        assert now.state in {S.CANCELLED, S.PAID}
        went_back = DOLLAR if now.state == S.PAID else 0
        before = await any_shop.dollars(wallet.address)
        await pay_out(db, rail)
        await any_shop.finalized()
        assert await any_shop.dollars(wallet.address) == before
        assert (now.tx_hash is not None) == bool(went_back)


async def test_of_two_ways_at_once_a_payback_gets_one(
    any_shop: Shop, wallet: Wallet
) -> None:
    topup = await any_shop.bought(wallet)
    db, rail = any_shop.process.db, any_shop.process.rail
    payback = await any_shop.propose(topup)
    done, refused = await outcomes(
        pay_from_float_key(db, rail, payback.id, "ann"),
        hand_out(db, rail, payback.id, "bob"),
        put_in_batch(db, rail, [payback.id], "carol"),
    )
    assert len(done) == 1
    assert {type(one) for one in refused} == {PaybackNotReady}
    issued = await any_shop.payback(payback)
    if issued.way == "safe":
        await any_shop.cancel(issued, batch_is_void=True)


async def test_two_operators_approve_once(any_shop: Shop, wallet: Wallet) -> None:
    topup = await any_shop.bought(wallet, 30 * DOLLAR)
    payback = await any_shop.propose(topup)
    assert payback.state == S.PROPOSED
    db = any_shop.process.db
    done, refused = await outcomes(*(approve(db, payback.id, n) for n in ("bob", "cy")))
    assert (len(done), len(refused)) == (1, 1)


async def test_workers_of_two_processes_pay_once(
    any_shop: Shop, any_house: House, wallet: Wallet, float_key: Relayer
) -> None:
    """Both sign, both send, both look."""
    topup = await any_shop.bought(wallet)
    other = await another(any_shop, any_house, float_key)
    db, rail = any_shop.process.db, any_shop.process.rail
    payback = await any_shop.propose(topup)
    done, _ = await outcomes(
        *(pay_from_float_key(db, rail, payback.id, name) for name in ("ann", "bob"))
    )
    assert done
    both = (any_shop.process, other.process)
    await any_shop.local.set_automine(on=False)
    for _ in range(2):
        await asyncio.gather(*(pay_out(one.db, one.rail) for one in both))
    await any_shop.local.set_automine(on=True)
    await any_shop.local.mine(3)
    await asyncio.gather(*(one.observe() for one in both))
    await asyncio.gather(*(pay_out(one.db, one.rail) for one in both))
    await any_shop.finalized()
    assert (await any_shop.payback(payback)).state == S.PAID
    assert await any_shop.dollars(wallet.address) == 100 * DOLLAR
    assert await any_shop.dollars(float_key.address) == 95 * DOLLAR


async def test_observers_of_two_processes_close_a_batch_once(
    any_shop: Shop, any_house: House, wallet: Wallet, float_key: Relayer
) -> None:
    topup = await any_shop.bought(wallet)
    other = await another(any_shop, any_house, float_key)
    db, rail = any_shop.process.db, any_shop.process.rail
    paybacks = [await any_shop.propose(topup, 10 * CREDIT) for _ in range(4)]
    done = await put_in_batch(db, rail, [one.id for one in paybacks], "ann")
    await any_shop.execute(safe_batch(rail.domain, rail.pay_to, done, now_ms=0))
    await any_shop.local.mine(3)
    await asyncio.gather(any_shop.process.observe(), other.process.observe())
    await asyncio.gather(any_shop.process.observe(), other.process.observe())
    states = [(await any_shop.payback(one)).state for one in paybacks]
    assert states == [S.PAID] * 4
    assert await any_shop.booked(any_shop.treasury) == 0


async def test_a_worker_that_died_before_sending_is_succeeded(
    shop: Shop,
    house: House,
    topup: TopUp,
    wallet: Wallet,
    float_key: Relayer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its signature is stored, and what it remembered is gone."""
    db, rail = shop.process.db, shop.process.rail
    payback = await pay_from_float_key(db, rail, (await shop.propose(topup)).id, "ann")

    async def die(*args: object) -> bool:
        raise RuntimeError("gone")

    with monkeypatch.context() as patch:
        patch.setattr("tallystick.payments.paybacks.paying._send", die)
        with pytest.raises(RuntimeError):
            await pay_out(db, rail)
    assert (await shop.payback(payback)).signature is not None
    later = await another(shop, house, float_key)
    await pay_out(later.process.db, later.process.rail)
    await shop.finalized()
    assert (await shop.payback(payback)).state == S.PAID
    assert await shop.dollars(wallet.address) == 100 * DOLLAR


async def test_a_silent_chain_gets_the_same_payback_for_higher_fees(
    shop: Shop, topup: TopUp, wallet: Wallet, house: House
) -> None:
    db, rail = shop.process.db, shop.process.rail
    payback = await pay_from_float_key(db, rail, (await shop.propose(topup)).id, "ann")
    await shop.local.set_automine(on=False)
    await pay_out(db, rail)
    first = rail.outlook.float_sent
    await pay_out(db, rail)
    assert first is not None
    assert rail.outlook.float_sent == first, "it has time"
    house.clock.advance(int(rail.stuck_seconds) + 1)
    await pay_out(db, rail)
    second = rail.outlook.float_sent
    assert second is not None
    assert second.evm_nonce == first.evm_nonce
    assert second.price.max_fee_per_gas > first.price.max_fee_per_gas
    await shop.local.set_automine(on=True)
    await shop.finalized()
    assert (await shop.payback(payback)).state == S.PAID
    assert await shop.dollars(wallet.address) == 100 * DOLLAR


async def test_books_of_before_a_payback_learn_of_it_and_do_not_pay_again(
    shop: Shop, house: House, topup: TopUp, wallet: Wallet, tmp_path: Path
) -> None:
    """They were restored: the row is gone, and its nonce is made anew as it was."""
    db, rail = shop.process.db, shop.process.rail
    books = Path(house.database_url.removeprefix("sqlite+aiosqlite:///"))
    backup = tmp_path / "backup.sqlite3"
    copy(books, backup)
    first = await pay_from_float_key(db, rail, (await shop.propose(topup)).id, "ann")
    await pay_out(db, rail)
    await shop.finalized()
    copy(backup, books)
    again = await pay_from_float_key(db, rail, (await shop.propose(topup)).id, "bob")
    assert (again.id, again.nonce) != (first.id, first.nonce)
    assert again.nonce == first.nonce
    await pay_out(db, rail)
    await shop.finalized()
    assert (await shop.payback(again)).state == S.PAID
    assert await shop.dollars(wallet.address) == 100 * DOLLAR


def copy(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as one, sqlite3.connect(target) as other:
        one.backup(other)
    one.close()
    other.close()


@pytest.mark.parametrize("way", ["float", "browser"])
async def test_a_payback_whose_block_is_replaced_is_sent_again(
    shop: Shop, house: House, topup: TopUp, wallet: Wallet, way: str
) -> None:
    """Nothing was closed, and the outflow is taken back until it is there again."""
    db, rail = shop.process.db, shop.process.rail
    payback = await shop.propose(topup)
    await shop.local.mine()
    if way == "float":
        await pay_from_float_key(db, rail, payback.id, "ann")
    else:
        handed = await hand_out(db, rail, payback.id, "ann")
        await take_signature(db, rail, payback.id, shop.signature(handed))
    await pay_out(db, rail)
    await shop.holds(wallet.address, 100 * DOLLAR)
    await shop.process.observe()
    head = await rail.head()
    await shop.local.reorg(head.number)
    assert await shop.dollars(wallet.address) == 95 * DOLLAR
    await shop.process.observe()
    await shop.process.observe()
    assert (await shop.payback(payback)).state == S.ISSUED
    assert await shop.booked(chart.paybacks()) == -50 * CREDIT
    house.clock.advance(int(rail.stuck_seconds) + 1)
    await pay_out(db, rail)
    await shop.finalized()
    assert (await shop.payback(payback)).state == S.PAID
    assert await shop.dollars(wallet.address) == 100 * DOLLAR
    async with db.read() as session:
        rows = (await session.exec(select(ChainOutflow))).all()
    assert len(rows) == (0 if way == "float" else 2)


async def test_one_that_cannot_be_sent_holds_up_nobody(
    shop: Shop, topup: TopUp, wallet: Wallet, house: House, float_key: Relayer
) -> None:
    """The seller has spent what he signed for; the float's own goes on."""
    db, rail = shop.process.db, shop.process.rail
    stuck = await hand_out(db, rail, (await shop.propose(topup, CREDIT)).id, "ann")
    await take_signature(db, rail, stuck.id, shop.signature(stuck))
    await shop.seller.send(b"\x0e" * 20, await shop.dollars(shop.seller.address))
    payback = await shop.propose(topup)
    await pay_from_float_key(db, rail, payback.id, "ann")
    await pay_out(db, rail)
    await shop.finalized()
    assert (await shop.payback(payback)).state == S.PAID
    assert (await shop.payback(stuck)).state == S.ISSUED
    assert rail.outlook.told_of_paybacks == {(stuck.id, "insufficient_funds")}
