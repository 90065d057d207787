"""What the seller moves out of ``pay_to`` is in the books, once, and compared."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from tallystick.chain.evidence import transfers_from
from tallystick.chain.local import LocalChain
from tallystick.chain.relay import broadcast, fees, sign_transaction
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import query
from tallystick.ledger import chart
from tallystick.ledger.balances import net_debits
from tallystick.migrations import downgrade, upgrade
from tallystick.payments.models.chain import ChainOutflow, Payee, Presence
from tallystick.payments.observing import reading
from tallystick.payments.observing.backlog import read_backlog
from tallystick.payments.observing.following import Overtaken, cursor_of
from tallystick.payments.observing.outflows import book_outflow
from tests.chain.payer import transfer_call
from tests.house import DOLLAR, House, Process, Wallet

SAFE_DEPOSIT = b"\x0e" * 20


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    """Blocks are final when they are 64 behind the head."""
    async with LocalChain(slots_in_an_epoch=32) as local:
        await local.mine(70)
        yield local


@pytest.fixture
async def payer(chain: LocalChain) -> Wallet:
    return await Wallet(chain).fund()


@pytest.fixture
async def seller(chain: LocalChain) -> Wallet:
    """Has the key of ``pay_to``, and ether."""
    made = Wallet(chain)
    await chain.give_gas(made.address)
    return made


@pytest.fixture
async def house(
    chain: LocalChain, database_url: str, clock: OffsetClock, seller: Wallet
) -> AsyncIterator[House]:
    """An installation whose books are right when the test is over."""
    made = House(chain, database_url, 1, clock, pay_to=seller.address)
    yield made
    auditor = await made.start()
    assert (await auditor.audit()).findings == []
    await made.stop()


@pytest.fixture
async def shop(house: House, payer: Wallet) -> Process:
    """Five dollars are there."""
    process = await house.start()
    await payer.send(house.pay_to, 5 * DOLLAR)
    await process.observe()
    return process


async def treasury(shop: Process) -> int:
    async with shop.db.read() as session:
        account = chart.treasury(shop.rail.network, shop.rail.domain.contract)
        return await net_debits(session, account)


async def holding(shop: Process) -> int:
    async with shop.db.read() as session:
        account = chart.chain_assets(shop.rail.network, shop.rail.domain.contract)
        return await net_debits(session, account)


async def presence(shop: Process) -> list[str]:
    query = select(ChainOutflow.presence).order_by(col(ChainOutflow.id))
    async with shop.db.read() as session:
        return list((await session.exec(query)).all())


async def test_a_sweep_is_the_treasurys(shop: Process, seller: Wallet) -> None:
    await seller.send(SAFE_DEPOSIT, 2 * DOLLAR)
    await seller.send(SAFE_DEPOSIT, DOLLAR)
    await shop.observe()
    assert (await treasury(shop), await holding(shop)) == (3 * DOLLAR, 2 * DOLLAR)
    report = (await shop.audit()).chain
    assert report is not None
    assert report.ledger_usdc == report.chain_usdc == 2 * DOLLAR
    (figures,) = report.payees
    assert (figures.books_usdc, figures.swept_usdc) == (2 * DOLLAR, 3 * DOLLAR)


async def test_observers_of_two_processes_book_a_sweep_once(
    shop: Process, house: House, seller: Wallet
) -> None:
    other = await house.start()
    await seller.send(SAFE_DEPOSIT, 2 * DOLLAR)
    await asyncio.gather(shop.observe(), other.observe(), shop.observe())
    assert (await treasury(shop), await holding(shop)) == (2 * DOLLAR, 3 * DOLLAR)


async def test_an_observer_that_read_a_branch_which_was_left_books_no_sweep(
    shop: Process, chain: LocalChain, seller: Wallet
) -> None:
    await chain.mine()
    before = await cursor_of(shop.db, shop.rail)
    await seller.send(SAFE_DEPOSIT, DOLLAR)
    head = await shop.rail.head()
    (seen,) = await transfers_from(
        chain.chain, seller.address, head.number, head.number
    )
    await chain.reorg(head.number)
    await shop.observe()
    with pytest.raises(Overtaken):
        await book_outflow(shop.db, shop.rail, seen, after=before)
    assert await presence(shop) == []


async def test_what_the_address_sends_to_itself_is_neither_lost_nor_double(
    shop: Process, seller: Wallet
) -> None:
    """It goes out and comes in, in one log: nothing is moved."""
    await seller.send(seller.address, 2 * DOLLAR)
    assert await shop.observe() == 1
    assert await holding(shop) == 5 * DOLLAR
    report = (await shop.audit()).chain
    assert report is not None
    assert report.ledger_usdc == report.chain_usdc == 5 * DOLLAR


async def test_a_sweep_of_nothing_is_not_booked(shop: Process, seller: Wallet) -> None:
    """Anybody can log one in another's name."""
    await seller.send(SAFE_DEPOSIT, 0)
    await shop.observe()
    assert await presence(shop) == []


@pytest.mark.parametrize("depth", [1, 5])
async def test_a_sweep_that_a_reorganisation_drops_is_taken_back_and_booked_again(
    shop: Process, chain: LocalChain, seller: Wallet, depth: int
) -> None:
    call = transfer_call(SAFE_DEPOSIT, 2 * DOLLAR)
    price = await fees(chain.chain)
    sent = sign_transaction(chain.chain, seller.key, 0, call, gas=100_000, fees=price)
    await broadcast(chain.chain, sent.raw)
    await chain.mine(depth)
    head = await shop.rail.head()
    await shop.observe()
    assert await treasury(shop) == 2 * DOLLAR
    await chain.reorg(head.number - depth + 1)
    await chain.reorg(head.number - depth)
    await shop.observe()
    assert (await treasury(shop), await holding(shop)) == (0, 5 * DOLLAR)
    assert await presence(shop) == [Presence.GONE]
    assert (await shop.audit()).findings == []
    await broadcast(chain.chain, sent.raw)
    await chain.mine()
    await shop.observe()
    assert (await treasury(shop), await holding(shop)) == (2 * DOLLAR, 3 * DOLLAR)


async def test_a_sweep_that_moves_to_another_block_only_moves(
    shop: Process, chain: LocalChain, seller: Wallet
) -> None:
    call = transfer_call(SAFE_DEPOSIT, 2 * DOLLAR)
    price = await fees(chain.chain)
    sent = sign_transaction(chain.chain, seller.key, 0, call, gas=100_000, fees=price)
    await chain.mine()
    before = await shop.rail.head()
    await broadcast(chain.chain, sent.raw)
    await chain.mine(2)
    await shop.observe()
    await chain.reorg(before.number + 1)
    await broadcast(chain.chain, sent.raw)
    await chain.mine()
    await shop.observe()
    assert await presence(shop) == [Presence.BOOKED]
    assert await treasury(shop) == 2 * DOLLAR
    # It goes with its new block, too, and nothing of it stays in the ledger.
    await chain.reorg(before.number + 1)
    await shop.observe()
    assert (await treasury(shop), await holding(shop)) == (0, 5 * DOLLAR)


async def test_outflows_of_the_time_before_are_read_once_and_the_reading_goes_on(
    shop: Process,
    house: House,
    chain: LocalChain,
    seller: Wallet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Books of a version that did not read them, brought to this one."""
    with monkeypatch.context() as older:
        older.setattr(reading, "book_outflow", _forget)
        for _ in range(3):
            await seller.send(SAFE_DEPOSIT, DOLLAR)
            await chain.mine(3)
        await shop.observe()
    assert await treasury(shop) == 0
    await house.stop()
    house.processes.clear()
    await downgrade(shop.db, "0013")
    await upgrade(shop.db)
    await shop.db.close()

    monkeypatch.setattr("tallystick.payments.observing.backlog._SPAN_BLOCKS", 4)
    monkeypatch.setattr("tallystick.payments.observing.backlog._SPANS", 1)
    later = await house.start()
    assert await unread(later) is not None
    report = await later.audit()
    assert report.findings == [], "compared as far as both directions are known"
    await chain.mine(70)
    rounds = 0
    while await unread(later) is not None:
        later = await house.start()  # stopped after each stretch
        await later.observe()
        rounds += 1
        assert (await later.audit()).findings == []
    assert rounds > 10
    assert (await treasury(later), await holding(later)) == (3 * DOLLAR, 2 * DOLLAR)
    await later.observe()
    assert await presence(later) == [Presence.BOOKED] * 3


async def _forget(*args: object, **more: object) -> None:
    """As the observer did before."""


async def unread(shop: Process) -> tuple[int, int] | None:
    async with shop.db.read() as session:
        (row,) = (await session.exec(select(Payee))).all()
    if row.unread_from is None or row.unread_to is None:
        return None
    return row.unread_from, row.unread_to


async def test_two_processes_read_old_outflows_once(
    shop: Process, house: House, chain: LocalChain, seller: Wallet
) -> None:
    await seller.send(SAFE_DEPOSIT, DOLLAR)
    await shop.observe()
    head = await shop.rail.head()
    await chain.mine(70)
    change = update(Payee).values(unread_from=1, unread_to=head.number)
    async with shop.db.writer.begin() as connection:
        await connection.execute(change)
    other = await house.start()
    both = (read_backlog(one.db, one.rail) for one in (shop, other))
    assert await asyncio.gather(*both) == [False, False]
    assert await unread(shop) is None
    assert await treasury(shop) == DOLLAR


async def test_no_step_back_forgets_what_was_swept(
    shop: Process, seller: Wallet
) -> None:
    await seller.send(SAFE_DEPOSIT, DOLLAR)
    await shop.observe()
    with pytest.raises(Exception, match="nothing_may_be_swept"):
        await downgrade(shop.db, "0013")
    async with shop.db.read() as session:
        assert len(await query(session, "SELECT id FROM chain_outflow")) == 1
