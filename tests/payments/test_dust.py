"""Poisoning by thousands of tiny transfers makes few lines, and no unit is lost."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlmodel import col, select

from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import query
from tallystick.payments.models.chain import ChainDust
from tallystick.payments.observing import dust
from tallystick.payments.reconciling import finalized
from tallystick.payments.reconciling.finalized import reconcile_finalized
from tallystick.payments.reconciling.reconcile import Reconciliation
from tests.house import DOLLAR, PAID, House, Process, Wallet
from tests.payments.test_audit import tamper
from tests.payments.test_observer import suspense
from tests.permits import PermitWallet, by_proxy, submit_together

CENT = DOLLAR // 100
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    async with LocalChain(slots_in_an_epoch=2) as local:
        await local.mine(8)
        yield local


@pytest.fixture
async def poisoner(chain: LocalChain) -> Wallet:
    return await Wallet(chain).fund()


@pytest.fixture
async def house(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    made = House(chain, database_url, 1, clock)
    try:
        yield made
        if made.is_sound:
            auditor = await made.start(dust_below=CENT)
            assert (await auditor.audit()).findings == []
            assert (await compare(auditor)).findings == []
            assert (await auditor.audit()).findings == []
    finally:
        await made.stop()


async def compare(shop: Process, *, seals: bool = True) -> Reconciliation:
    return await reconcile_finalized(shop.db, shop.rail, seals=seals)


async def lines(shop: Process) -> list[tuple[int, int]]:
    """How many Transfers each line stands for, and what they brought."""
    rows = select(ChainDust).order_by(col(ChainDust.first_block))
    async with shop.db.read() as session:
        found = (await session.exec(rows)).all()
    return [(one.transfers, one.value) for one in found]


async def bookings(shop: Process) -> int:
    async with shop.db.read() as session:
        return len(await query(session, "SELECT id FROM ledger_transaction"))


async def test_many_tiny_transfers_are_one_line_in_the_books(
    house: House, chain: LocalChain, poisoner: Wallet
) -> None:
    shop = await house.start(dust_below=CENT)
    for value in range(1, 11):
        await poisoner.send(house.pay_to, value)
    await poisoner.send(house.pay_to, 0)
    await poisoner.send(house.pay_to, CENT - 1)
    await poisoner.send(house.pay_to, CENT)
    assert await shop.observe() == 1, "a cent has its own row"
    assert (await shop.audit()).findings == [], "also while it is not gathered"
    await chain.mine(6)
    await shop.observe()
    assert (await compare(shop)).findings == []
    assert await lines(shop) == [(11, 55 + CENT - 1)]
    assert await bookings(shop) == 2
    assert await suspense(shop) == 55 + CENT - 1 + CENT
    report = (await shop.audit()).chain
    assert report is not None
    assert report.ledger_usdc == report.chain_usdc == 55 + 2 * CENT - 1


async def test_what_an_authorization_brought_is_no_dust(
    house: House, poisoner: Wallet
) -> None:
    shop = await house.start(dust_below=CENT)
    topup = await shop.settle(
        await shop.claim(await poisoner.authorize(house.pay_to, 7))
    )
    assert topup.state == "credited"
    await poisoner.local.mine(6)
    assert await shop.observe() == 1
    assert (await compare(shop)).findings == []
    assert await lines(shop) == []


async def buyer_by_permit(chain: LocalChain) -> PermitWallet:
    wallet = PermitWallet(chain)
    await wallet.fund()
    await wallet.approve()
    return wallet


@pytest.mark.parametrize("others", [(), (3, 4)])
async def test_a_permit_that_was_gathered_as_dust_is_booked_once_when_it_is_presented(
    house: House, chain: LocalChain, poisoner: Wallet, others: tuple[int, ...]
) -> None:
    """Its payer settles it by a contract of his own, which looks like any Transfer."""
    shop = await house.start(dust_below=CENT, takes_permit2=True)
    payer = await buyer_by_permit(chain)
    signed = await payer.permit(house.pay_to, 5, seconds=3000)
    await submit_together(chain, by_proxy(signed))
    for value in others:
        await poisoner.send(house.pay_to, value)
    await chain.mine(6)
    await shop.observe()
    assert (await compare(shop)).findings == []
    assert await lines(shop) == [(1 + len(others), 5 + sum(others))]
    topup = await shop.settle(await shop.claim(signed))
    assert topup.state in PAID
    assert await shop.credits_of(payer) == 50
    assert await lines(shop) == ([(len(others), sum(others))] if others else [])
    assert await suspense(shop) == sum(others)
    assert (await compare(shop)).findings == []
    await chain.mine(6)
    await shop.observe()
    assert (await compare(shop)).findings == []


async def test_a_small_permit_that_was_never_dust_leaves_the_dust_alone(
    house: House, chain: LocalChain, poisoner: Wallet
) -> None:
    shop = await house.start(dust_below=CENT, takes_permit2=True)
    payer = await buyer_by_permit(chain)
    signed = await payer.permit(house.pay_to, 5)
    topup_id = await shop.claim(signed)
    await poisoner.send(house.pay_to, 3)
    assert (await shop.settle(topup_id)).state == "credited"
    await chain.mine(6)
    await shop.observe()
    assert (await compare(shop)).findings == []
    assert await lines(shop) == [(1, 3)]


async def test_dust_of_blocks_that_were_replaced_is_not_in_the_books(
    house: House, chain: LocalChain, poisoner: Wallet
) -> None:
    shop = await house.start(dust_below=CENT)
    await poisoner.send(house.pay_to, 5)
    head = await shop.rail.head()
    await shop.observe()
    await chain.reorg(head.number)
    await shop.observe()
    await poisoner.send(house.pay_to, 3)
    await chain.mine(6)
    await shop.observe()
    await compare(shop)
    assert await lines(shop) == [(1, 3)]


async def test_two_processes_and_a_restart_gather_it_once(
    house: House, chain: LocalChain, poisoner: Wallet
) -> None:
    shop, other = [await house.start(dust_below=CENT) for _ in range(2)]
    await poisoner.send(house.pay_to, 5)
    await chain.mine(6)
    await shop.observe()
    await asyncio.gather(compare(shop), compare(other))
    again = await house.start(dust_below=CENT)
    assert (await compare(again)).findings == []
    assert await lines(shop) == [(1, 5)]


async def test_another_setting_loses_nothing(
    house: House, chain: LocalChain, poisoner: Wallet
) -> None:
    """What was passed over by the old one is gathered under the new one."""
    shop = await house.start(dust_below=CENT)
    await poisoner.send(house.pay_to, CENT // 2)
    await shop.observe()
    stricter = await house.start(dust_below=10)
    await poisoner.send(house.pay_to, CENT // 2)
    await chain.mine(6)
    assert await stricter.observe() == 1
    assert (await compare(stricter)).findings == []
    assert await lines(stricter) == [(1, CENT // 2)]
    assert await suspense(stricter) == CENT


@ON_SQLITE
async def test_a_long_history_is_gathered_and_compared_in_stretches(
    house: House,
    chain: LocalChain,
    poisoner: Wallet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No stretch is cut in two, wherever the comparison stops for breath."""
    monkeypatch.setattr(dust, "_SPAN_BLOCKS", 5)
    monkeypatch.setattr(finalized, "SPAN_BLOCKS", 3)
    monkeypatch.setattr(finalized, "DUE_BLOCKS", 3)
    shop = await house.start(dust_below=CENT)
    for value in range(1, 13):
        await poisoner.send(house.pay_to, value)
    await chain.mine(6)
    await shop.observe()
    for _ in range(3):
        assert (await compare(shop)).findings == []
    assert sum(count for count, _ in await lines(shop)) == 12
    assert len(await lines(shop)) > 2


SEEDED = {
    "its sum": "UPDATE chain_dust SET value = value + 1",
    "its number": "UPDATE chain_dust SET transfers = transfers - 1",
    "the line": "DELETE FROM chain_dust",
    "its booking": """UPDATE transfer SET amount = amount + 1
                       WHERE ledger_transaction_id = (
                             SELECT id FROM ledger_transaction
                              WHERE reference LIKE 'dust:%')""",
}


@ON_SQLITE
@pytest.mark.parametrize("seeded", SEEDED)
@pytest.mark.parametrize("sealed", [False, True])
async def test_one_unit_of_dust_is_found_and_named(
    house: House,
    chain: LocalChain,
    poisoner: Wallet,
    monkeypatch: pytest.MonkeyPatch,
    seeded: str,
    *,
    sealed: bool,
) -> None:
    if sealed:
        monkeypatch.setattr(finalized, "DUE_MOVES", 1)
    shop = await house.start(dust_below=CENT)
    for value in (3, 4):
        await poisoner.send(house.pay_to, value)
    await chain.mine(6)
    await shop.observe()
    assert (await compare(shop)).findings == []
    tamper(house, SEEDED[seeded])
    # The number alone changes no sum, so it is compared with the chain, in full.
    found = (await compare(shop)).findings
    if not (sealed and seeded == "its number"):
        assert found, seeded
        words = " ".join(one.detail for one in found)
        assert "dust:" in words or "blocks" in words or "0x" in words
    assert not (await shop.audit()).ok
