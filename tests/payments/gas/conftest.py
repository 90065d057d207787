"""A shop on a chain whose gas costs what it does on Base."""

from collections.abc import AsyncIterator

import pytest

from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tests.house import House
from tests.payments.gas.scene import DAY_SECONDS, seconds_until_midnight, wait


@pytest.fixture
async def chain() -> AsyncIterator[LocalChain]:
    async with LocalChain() as fresh:
        yield fresh


@pytest.fixture
async def shop_house(
    chain: LocalChain, database_url: str, clock: OffsetClock
) -> AsyncIterator[House]:
    """At noon, so that no test runs into the next day unless it means to."""
    made = House(chain, database_url, 0, clock)
    try:
        await wait(made, seconds_until_midnight(clock) + DAY_SECONDS // 2)
        yield made
        auditor = await made.start()
        assert (await auditor.audit()).findings == []
    finally:
        await made.stop()
