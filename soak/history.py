"""``history``: many writers at once, again and again, and what they were told is so.

The parallel history of the tests, with writers' choices from the campaign's seed. Who
of them comes first is up to the machine, so a seed brings back the same wishes and not
the same order.
"""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.ledger.tampering import tamper
from tests.properties.test_parallel_history import play, require_that_it_adds_up

from soak import places
from soak.books import Make, fresh_books
from soak.failures import words
from soak.plan import Plan
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import open_database

# So that many a transaction commits after one with a higher id was sealed.
_NO_MARGIN = ("tallystick.ledger.sealing._MARGIN_MS", 0)


def run(plan: Plan) -> dict[str, Any]:
    """The verdict; ``failure`` is the first thing that did not add up."""
    chance, counts, failure = random.Random(plan.seed), Counter[str](), ""
    end = time.monotonic() + plan.seconds
    with places.folder() as folder, fresh_books(plan, folder) as make:
        while not failure and (not counts or time.monotonic() < end):
            place = folder / f"history-{counts['histories']}"
            place.mkdir()
            counts["histories"] += 1
            with patch(*_NO_MARGIN):
                seed = chance.randrange(1 << 32)
                failure = asyncio.run(_failure(plan, make, place, seed, counts))
            plan.tell(", ".join(f"{count} {name}" for name, count in counts.items()))
    verdict = {
        "ok": not failure,
        "seed": plan.seed,
        "database": plan.database,
        **counts,
    }
    return verdict | ({"failure": failure} if failure else {})


async def _failure(
    plan: Plan, make: Make, place: Path, seed: int, counts: Counter[str]
) -> str:
    """Play one; what did not add up, or nothing."""
    clock = OffsetClock()
    db = open_database(await make(place), clock)
    try:
        await db.start()
        history = await play(db, clock, seed)
        counts["charges"] += len(history.charged)
        counts["holds"] += len(history.placed)
        counts["refunds"] += history.refunds
        if plan.sabotage:
            await tamper(db, "UPDATE account_balance SET balance = balance + 1")
        counts["expired"] += await require_that_it_adds_up(history)
    except Exception as error:  # noqa: BLE001 - whatever it is, the verdict tells it
        return f"seed {seed}: {words(error)}"
    finally:
        await db.close()
    return ""
