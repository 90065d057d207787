"""Books are compared with the chain that they were made on, and with no other."""

import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import update

from tallystick.chain.fault import FaultProxy, Rewrite
from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.payments.errors import BooksOfAnotherChain, TopUpsUnavailable
from tallystick.payments.models.chain import ChainCursor
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.observing.same_chain import find_cursor
from tests.house import DOLLAR, House, Process, Wallet
from tests.processes import run, serving
from tests.test_cli import require_refusal, settings_for

DEPTH = 8
"""How far behind the head a block is final, on ``chain``."""


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    async with LocalChain(slots_in_an_epoch=DEPTH // 2) as local:
        await local.mine(3 * DEPTH)
        yield local


@pytest.fixture
async def shop(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    made = House(chain, database_url, 1, clock)
    yield made
    await made.stop()


async def cursor_of(process: Process) -> ChainCursor:
    async with process.db.read() as session:
        cursor = await find_cursor(session, process.rail)
    assert cursor is not None
    return cursor


async def move(process: Process, other: LocalChain) -> Process:
    """The same process, whose node's URL leads to another chain from now on."""
    rail = replace(process.rail, chain=other.open_chain())
    return replace(process, gate=replace(process.gate, rail=rail))


@pytest.mark.parametrize("mined", [0, 40], ids=["shorter", "longer"])
async def test_serve_and_audit_say_that_the_books_are_another_chains(
    tmp_path: Path, mined: int
) -> None:
    """The local chain was restarted, as everybody does who tries the server."""
    async with LocalChain() as before:
        await before.mine(20)
        settings = settings_for(before, tmp_path)
        async with serving(tmp_path, **settings) as server:
            # The books are open, so they know their chain, even unread.
            await server.end(signal.SIGTERM)
    async with LocalChain() as after:
        # First of all: two that begin in the same second would have the same blocks.
        await Wallet(after).fund()
        await after.mine(1 + mined)
        settings["RPC_URLS"] = after.url
        for command in ("serve", "audit"):
            ended = await run(command, cwd=tmp_path, **settings)
            require_refusal(
                ended,
                "These books belong to another chain",
                "another block is in its place" if mined else "the chain ends at block",
                "begin new books with another DATABASE_URL",
            )
        books = await run("audit", "--books-only", cwd=tmp_path, **settings)
        assert books.code == 0, "in themselves they are right"


async def test_a_chain_that_is_replaced_under_a_running_server_is_not_read(
    shop: House, chain: LocalChain
) -> None:
    process = await shop.start()
    await process.observe()
    before = await cursor_of(process)
    async with LocalChain() as other:
        # First of all: two that begin in the same second would have the same blocks.
        wallet = await Wallet(other).fund()
        await other.mine(100)
        await wallet.send(shop.pay_to, DOLLAR)
        moved = await move(process, other)
        with pytest.raises(BooksOfAnotherChain):
            await moved.observe()
        with pytest.raises(BooksOfAnotherChain):
            await moved.audit()
        with pytest.raises(TopUpsUnavailable, match="another chain"):
            await moved.claim(await wallet.authorize(shop.pay_to))
        await moved.rail.chain.close()
    after = await cursor_of(process)
    assert (after.block_number, after.anchor_hash) == (
        before.block_number,
        before.anchor_hash,
    )
    await process.observe()
    assert process.rail.obstacle is None, "the right chain is back"


async def test_new_books_know_their_chain_before_a_block_of_it_is_read(
    shop: House, chain: LocalChain
) -> None:
    process = await shop.start()
    async with LocalChain() as other:
        await Wallet(other).fund()
        await other.mine(100)
        moved = await move(process, other)
        with pytest.raises(BooksOfAnotherChain):
            await moved.observe()
        await moved.rail.chain.close()


async def test_an_ordinary_reorganisation_is_no_other_chain(
    shop: House, chain: LocalChain
) -> None:
    """The cursor's own block is gone, also while the server was down."""
    process = await shop.start()
    await process.observe()
    cursor = await cursor_of(process)
    assert cursor.anchor_number == cursor.block_number - DEPTH
    await chain.reorg(cursor.block_number - DEPTH + 1)
    replaced = await chain.chain.block(cursor.block_number)
    assert replaced is not None
    assert replaced.hash != cursor.block_hash
    await process.observe()
    restarted = await shop.restart()
    await chain.mine(2)
    wallet = await Wallet(chain).fund()
    topup = await restarted.settle(
        await restarted.claim(await wallet.authorize(shop.pay_to))
    )
    assert topup.state == TopUpState.CREDITED
    assert (await restarted.audit()).findings == []


async def test_the_anchor_follows_what_is_final_and_never_goes_back(
    shop: House, chain: LocalChain
) -> None:
    process = await shop.start()
    await process.observe()
    first = await cursor_of(process)
    await chain.mine(5)
    await process.observe()
    second = await cursor_of(process)
    assert first.anchor_number is not None
    assert second.anchor_number == first.anchor_number + 5


async def test_books_of_an_older_version_get_their_anchor_with_the_next_look(
    shop: House, chain: LocalChain
) -> None:
    process = await shop.start()
    await process.observe()
    async with process.db.writer.begin() as connection:
        await connection.execute(
            update(ChainCursor).values(anchor_number=None, anchor_hash=None)
        )
    later = await shop.start()
    await chain.mine()
    await later.observe()
    assert (await cursor_of(later)).anchor_number is not None


async def test_a_node_that_forgot_old_blocks_proves_nothing(
    shop: House, chain: LocalChain
) -> None:
    """A pruned node says null for the anchor while it follows the chain's end."""
    process = await shop.start()
    await process.observe()
    anchor = (await cursor_of(process)).anchor_number
    assert anchor is not None

    def forget(answer: object) -> object:
        is_old = isinstance(answer, dict) and answer.get("number") == hex(anchor)
        return None if is_old else answer

    async with FaultProxy(chain.url) as proxy:
        proxy.inject("eth_getBlockByNumber", Rewrite(change=forget))
        pruned = await shop.start(proxy.url)
        assert pruned.rail.obstacle is None
