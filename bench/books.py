"""Books to measure on, and a charge as it comes through the door."""

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.callers import Call, Calls, calls
from tallystick.kernel.db import Database, open_database
from tallystick.kernel.money import MicroCredits
from tallystick.metering.charges import Usage
from tallystick.migrations import upgrade
from tallystick.paywall.answers import idempotency_answer
from tallystick.paywall.deduct import deduct_alone
from tallystick.paywall.plain import Deduction, plain_writes

GIVEN = MicroCredits(1 << 50)
FEATURE = "bench"
_DAY_MS = 24 * 3600 * 1000
_LEASE_SECONDS = 60
_ASKED = "00" * 16


@dataclass(frozen=True, slots=True)
class Books:
    """Books in which every customer can pay for as long as anybody measures."""

    db: Database
    customers: Sequence[int]

    async def charges(self, *, callers: int, seconds: float) -> Calls:
        """What so many callers get through."""
        return await calls(self.charging(), callers=callers, seconds=seconds)

    def charging(self) -> Call:
        """A charge of any customer, under a new Idempotency-Key, whose answer is kept."""
        deductions = plain_writes(self.db)

        async def charge(_number: int) -> None:
            wanted = self._deduction()
            alone = partial(deduct_alone, wanted, _LEASE_SECONDS)
            await deductions.do(wanted, lambda: self.db.write(alone))

        return charge

    def _deduction(self) -> Deduction:
        customer = secrets.choice(self.customers)
        until_ms = self.db.clock.now_ms() + _DAY_MS
        key = idempotency_answer(customer, secrets.token_hex(16), _ASKED, until_ms)
        return Deduction(usage_of(customer), key)


def usage_of(customer_id: int) -> Usage:
    """One unit, for one micro-credit."""
    return Usage(customer_id, FEATURE, 1_000_000, MicroCredits(1), "bench")


@asynccontextmanager
async def empty_books(url: str) -> AsyncIterator[Database]:
    """The newest schema, and nothing in it."""
    db = open_database(url)
    try:
        await upgrade(db)
        await db.start()
        yield db
    finally:
        await db.close()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder on the machine's disk that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tallystick-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
