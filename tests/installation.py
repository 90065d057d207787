"""A chain that tests share; each has its own address and database."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tallystick.chain.fault import FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tests.house import House, Wallet


@contextlib.contextmanager
def _running_chain() -> Iterator[LocalChain]:
    """Mines every transaction at once. Its connections belong to the test that asks."""
    local = LocalChain()

    async def start() -> None:
        await local.start()
        await local.chain.close()

    asyncio.run(start())
    yield local
    asyncio.run(local.stop())


@pytest.fixture(scope="session")
def shared_chain() -> Iterator[LocalChain]:
    with _running_chain() as local:
        yield local


@pytest.fixture(scope="session")
def shared_punctual_chain() -> Iterator[LocalChain]:
    with _running_chain() as local:
        yield local


@pytest.fixture
async def local(shared_chain: LocalChain) -> AsyncIterator[LocalChain]:
    """A chain whose clock may have been moved: go by ``House.clock``."""
    yield shared_chain
    await shared_chain.set_automine(on=True)
    await shared_chain.mine()
    await shared_chain.chain.close()


@pytest.fixture
async def punctual(shared_punctual_chain: LocalChain) -> AsyncIterator[LocalChain]:
    """A chain whose clock nobody moves, for programs that go by the machine's."""
    yield shared_punctual_chain
    await shared_punctual_chain.chain.close()


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    path = tmp_path / "tallystick.sqlite3"
    shutil.copy(sqlite_template, path)
    return f"sqlite+aiosqlite:///{path}"


async def _house(
    local: LocalChain, url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    head = await local.chain.block("latest")
    assert head is not None
    made = House(local, url, head.number + 1, clock)
    try:
        yield made
        if made.processes and made.is_sound:
            auditor = await made.start()
            assert (await auditor.audit()).findings == []
    finally:
        await made.stop()


@pytest.fixture
async def house(
    local: LocalChain, sqlite_url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    """An installation on SQLite; the full audit passes when the test is over."""
    async for made in _house(local, sqlite_url, clock):
        yield made


@pytest.fixture
async def any_house(
    local: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    """An installation on each kind of database."""
    async for made in _house(local, database_url, clock):
        yield made


@pytest.fixture
async def wallet(local: LocalChain) -> Wallet:
    return await Wallet(local).fund()


@pytest.fixture
async def proxy(local: LocalChain) -> AsyncIterator[FaultProxy]:
    """A node that can be made to fail."""
    async with FaultProxy(local.url) as made:
        yield made
