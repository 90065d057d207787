"""A shop on a chain of its own: blocks are final when they are 64 behind the head."""

from collections.abc import AsyncIterator

import pytest

from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tests.house import House, Process, Wallet


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
async def shop(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[Process]:
    """A server whose books are right when the test is over."""
    house = House(chain, database_url, 1, clock)
    process = await house.start()
    yield process
    assert (await process.audit()).findings == []
    await house.stop()
