"""Whoever goes away in the middle of a write leaves no lock and no half of it."""

import asyncio
import random

from tests.ledger.bookings import balance, give

from tallystick.kernel.db import Database

_ROUNDS = 60


async def test_grants_that_are_cancelled_at_any_moment_block_nobody(
    db: Database,
) -> None:
    """Also during BEGIN, COMMIT and ROLLBACK, and more than once."""
    chance, finished = random.Random(1), 0
    await give(db, 1)
    for number in range(_ROUNDS):
        grants = [asyncio.create_task(give(db, 1)) for _ in range(3)]
        for _ in range(1 + number % 2):
            await asyncio.sleep(chance.random() * 0.012)
            for one in grants:
                one.cancel()
        told = await asyncio.gather(*grants, return_exceptions=True)
        assert not [one for one in told if isinstance(one, Exception)]
        finished += sum(not isinstance(one, BaseException) for one in told)
        async with asyncio.timeout(1.5):
            await give(db, 1)
    given = (await balance(db)).available
    assert 1 + _ROUNDS + finished <= given <= 1 + 4 * _ROUNDS
