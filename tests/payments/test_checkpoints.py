"""Compared at final blocks from checkpoint to checkpoint; one unit too much is named."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import update
from sqlmodel import col, select

from tallystick.audit import audit
from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.payments.errors import BooksOfAnotherChain
from tallystick.payments.models.chain import ChainCheckpoint
from tallystick.payments.observing.following import Movements
from tallystick.payments.rail import Rail
from tallystick.payments.reconciling import checkpoints, finalized
from tallystick.payments.reconciling.books import Sums
from tallystick.payments.reconciling.finalized import reconcile_finalized
from tallystick.payments.reconciling.reconcile import Reconciliation
from tests.house import DOLLAR, House, Process, Wallet
from tests.payments.test_audit import tamper

I6 = "I6 the ledger's USDC equals the token's balance plus what was swept"
I15 = checkpoints.I15
SUMS = checkpoints.I16
I6_PAYEE = "I6 an address holds what came to it and has not left it"
I16_IN = "I16 every Transfer to pay_to is in the ledger, and no other"
I16_OUT = "I16 every Transfer out of pay_to is in the ledger, and no other"


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    async with LocalChain(slots_in_an_epoch=2) as local:
        await local.mine(8)
        yield local


@pytest.fixture
async def payer(chain: LocalChain) -> Wallet:
    return await Wallet(chain).fund()


@pytest.fixture
async def seller(chain: LocalChain) -> Wallet:
    return Wallet(chain)


@pytest.fixture
async def house(
    chain: LocalChain, database_url: str, clock: OffsetClock, seller: Wallet
) -> AsyncIterator[House]:
    made = House(chain, database_url, 1, clock, pay_to=seller.address)
    try:
        yield made
        if made.is_sound:
            auditor = await made.start()
            assert (await auditor.audit()).findings == []
            assert (
                await reconcile_finalized(auditor.db, auditor.rail, seals=True)
            ).findings == []
    finally:
        await made.stop()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint whenever there was a Transfer."""
    monkeypatch.setattr(finalized, "DUE_MOVES", 1)


async def pass_by(shop: Process, payer: Wallet, seller: Wallet) -> None:
    """A top-up, a plain transfer and a sweep, all of them final."""
    await shop.settle(await shop.claim(await payer.authorize(shop.rail.pay_to)))
    await payer.send(shop.rail.pay_to, 2 * DOLLAR)
    await seller.send(b"\x0e" * 20, DOLLAR)
    await payer.local.mine(6)
    await shop.observe()


async def compare(shop: Process, *, seals: bool = True) -> Reconciliation:
    return await reconcile_finalized(shop.db, shop.rail, seals=seals)


async def made(shop: Process) -> list[ChainCheckpoint]:
    in_order = select(ChainCheckpoint).order_by(col(ChainCheckpoint.block_number))
    async with shop.db.read() as session:
        return list((await session.exec(in_order)).all())


@pytest.fixture
async def shop(house: House, payer: Wallet, seller: Wallet) -> Process:
    """Books with two checkpoints, and as much again after them."""
    process = await house.start()
    for _ in range(2):
        await pass_by(process, payer, seller)
        assert (await compare(process)).findings == []
    assert len(await made(process)) == 2
    await pass_by(process, payer, seller)
    return process


async def test_each_round_reads_on_from_the_checkpoint(
    shop: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await made(shop)
    assert (first.came_in, first.went_out) == (3 * DOLLAR, DOLLAR)
    assert (second.came_in, second.went_out) == (6 * DOLLAR, 2 * DOLLAR)
    asked: list[int] = []
    differences = finalized.compare_logs

    async def listen(rail: Rail, table: Movements, first: int, *more: Any) -> Any:
        asked.append(first)
        return await differences(rail, table, first, *more)

    monkeypatch.setattr(finalized, "compare_logs", listen)
    found = await compare(shop)
    assert set(asked) == {second.block_number + 1}
    assert found.findings == []
    assert found.ledger_usdc == found.chain_usdc == 6 * DOLLAR
    assert [one.came_in for one in await made(shop)] == [
        3 * DOLLAR,
        6 * DOLLAR,
        9 * DOLLAR,
    ]


async def test_a_long_history_is_caught_up_in_several_rounds(
    house: House, payer: Wallet, seller: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalized, "SPAN_BLOCKS", 2)
    monkeypatch.setattr(finalized, "DUE_BLOCKS", 2)
    monkeypatch.setattr(finalized, "_SPANS", 3)
    shop = await house.start()
    for _ in range(2):
        await pass_by(shop, payer, seller)
    final = await shop.rail.chain.block("finalized")
    assert final is not None
    told = await compare(shop, seals=False)
    assert (told.block_number, await made(shop)) == (final.number, [])
    reached = []
    for _ in range(20):
        reached.append((await compare(shop)).block_number)
        assert (await audit(shop.db, None)).findings == []
    assert reached[:2] == [6, 12]
    assert reached[-1] == final.number


async def test_whoever_only_looks_writes_nothing(shop: Process) -> None:
    before = len(await made(shop))
    assert (await compare(shop, seals=False)).findings == []
    assert len(await made(shop)) == before


NEW = "(SELECT MAX(block_number) FROM chain_checkpoint)"
OLD = "(SELECT MIN(block_number) FROM chain_checkpoint)"
LAST_SWEEP = "(SELECT MAX(id) FROM ledger_transaction WHERE kind = 'sweep')"
LAST_SUSPENSE = "(SELECT MAX(id) FROM ledger_transaction WHERE kind = 'suspense')"
SEEDED = {
    "a new Transfer": (
        f"""UPDATE chain_transfer SET value = value + 1
             WHERE nonce IS NULL AND block_number > {NEW}""",
        {I6, I16_IN},
    ),
    "an old Transfer": (
        f"""UPDATE chain_transfer SET value = value - 1
             WHERE nonce IS NULL AND block_number < {OLD}""",
        {I6, SUMS, I16_IN},
    ),
    "a new sweep": (
        f"UPDATE chain_outflow SET value = value + 1 WHERE block_number > {NEW}",
        {I6, I16_OUT},
    ),
    "an old sweep": (
        f"UPDATE chain_outflow SET value = value - 1 WHERE block_number < {OLD}",
        {I6, SUMS, I16_OUT},
    ),
    "what the ledger booked of a sweep": (
        f"""UPDATE transfer SET amount = amount + 1
             WHERE ledger_transaction_id = {LAST_SWEEP}""",
        {I6},
    ),
    "what the ledger booked of a transfer": (
        f"""UPDATE transfer SET amount = amount - 1
             WHERE ledger_transaction_id = {LAST_SUSPENSE}""",
        {I6},
    ),
    "what a checkpoint says came in": (
        f"UPDATE chain_checkpoint SET came_in = came_in + 1 WHERE block_number = {OLD}",
        {I15},
    ),
    "what a checkpoint says went out": (
        f"UPDATE chain_checkpoint SET went_out = went_out - 1 WHERE block_number = {NEW}",
        {I15, SUMS},
    ),
    "what a checkpoint says of the ledger": (
        f"""UPDATE chain_checkpoint SET ledger_usdc = ledger_usdc + 1
             WHERE block_number = {NEW}""",
        {I15},
    ),
    "a checkpoint that is gone": (
        f"DELETE FROM chain_checkpoint WHERE block_number = {OLD}",
        {I15},
    ),
    "what the books began with": (
        "UPDATE chain_cursor SET opening_balance = opening_balance + 1",
        {I6_PAYEE},
    ),
}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("seeded", SEEDED)
async def test_one_unit_is_found_and_named(
    house: House, shop: Process, seeded: str
) -> None:
    sql, invariants = SEEDED[seeded]
    tamper(house, sql)
    found = await compare(shop)
    assert {one.invariant for one in found.findings} == invariants, found.findings
    document = found.document()
    assert not document["ok"]
    assert all(one["next_step"] for one in document["findings"])
    for one in found.findings:
        if one.invariant in (I6, I16_IN, I16_OUT):
            assert "0x" in one.detail, "the transaction is named"
    assert len(await made(shop)) <= 2, "nothing is sealed that differs"
    assert not (await audit(shop.db, shop.rail)).ok, "the full audit finds it as well"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_checkpoint_that_was_sealed_anew_is_held_against_the_transfers(
    house: House, shop: Process
) -> None:
    """Whoever changes one covers his tracks."""
    _, last = await made(shop)
    false = replace_row(last, came_in=last.came_in + 1)
    digest = checkpoints._digest(false).hex()
    tamper(
        house,
        f"""UPDATE chain_checkpoint SET came_in = came_in + 1, digest = x'{digest}'
             WHERE block_number = {last.block_number}""",
    )
    (named,) = (await compare(shop)).findings
    assert named.invariant == SUMS
    assert (
        f"block {last.block_number}: checkpoint {last.came_in + 1} in" in named.detail
    )


def replace_row(one: ChainCheckpoint, **changed: int) -> ChainCheckpoint:
    return ChainCheckpoint(**(one.model_dump() | changed))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_transaction_that_became_visible_late_is_no_difference(
    house: House, shop: Process
) -> None:
    """Its id is lower than the checkpoint's: then all of the journal is asked."""
    (last,) = (await made(shop))[-1:]
    false = replace_row(last, ledger_usdc=last.ledger_usdc - 1)
    digest = checkpoints._digest(false).hex()
    tamper(
        house,
        f"""UPDATE chain_checkpoint
               SET ledger_usdc = ledger_usdc - 1, digest = x'{digest}'
             WHERE block_number = {last.block_number}""",
    )
    assert (await compare(shop)).findings == []


async def test_checkpoints_of_another_chain_are_none_of_ours(
    house: House, shop: Process
) -> None:
    house.is_sound = False
    change = update(ChainCheckpoint).values(block_hash=bytes(32))
    async with shop.db.writer.begin() as connection:
        await connection.execute(change)
    with pytest.raises(BooksOfAnotherChain):
        await compare(shop)


async def test_of_two_who_read_on_from_one_checkpoint_the_second_is_too_late(
    shop: Process,
) -> None:
    """Their final blocks differ, so only what they read on from tells."""
    first, second = await made(shop)
    block = await shop.rail.chain.block(second.block_number + 1)
    assert block is not None
    ledger = checkpoints.LedgerUpTo()
    sealed = await shop.db.write(
        lambda session: checkpoints.seal_checkpoint(
            session, shop.rail, first, block, Sums(0, 0), ledger
        )
    )
    assert not sealed
    assert len(await made(shop)) == 2


async def test_two_processes_make_one_row_of_checkpoints(
    house: House, shop: Process
) -> None:
    other = await house.start()
    await asyncio.gather(compare(shop), compare(other), compare(shop))
    assert (await audit(shop.db, None)).findings == []
    assert len(await made(shop)) == 3
