"""The same books by a clock that a test moves."""

from collections.abc import AsyncIterator

import pytest
from tests.credits.clocks import StandingClock

from tallystick.kernel.db import Database, open_database


@pytest.fixture
def standing_clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
async def standing(
    db: Database, database_url: str, standing_clock: StandingClock
) -> AsyncIterator[Database]:
    """The same database by a clock that moves only when told."""
    other = open_database(database_url, standing_clock)
    yield other
    await other.close()
