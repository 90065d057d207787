"""The database: is it there, is it ours, does it know what time it is."""

from pathlib import Path

from tallystick.boot import check_database, reachable
from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable
from tallystick.config import Settings
from tallystick.doctor.findings import Examination
from tallystick.doctor.obligations import examine_merchants, examine_paybacks
from tallystick.kernel.clock import SystemClock
from tallystick.kernel.db import Database, open_database
from tallystick.kernel.errors import TallystickError
from tallystick.payments.errors import BooksOfAnotherChain
from tallystick.payments.observing.same_chain import check_chain
from tallystick.paywall.gate import Gate
from tallystick.safe_settings import UnsafeSettings, check_database_url
from tallystick.wiring import build_gate

_WARN_MS = 2_000
_TOO_FAR_MS = 30_000


async def examine_database(exam: Examination, url: str) -> bool:
    """Whether the books can be read; no row of them is changed."""
    exam.looking("the database")
    try:
        check_database_url(url)
        db = open_database(url)
        try:
            return await _examine(exam, db)
        finally:
            await db.close()
    except UnsafeSettings as error:
        exam.refused("database", error.problems)
    except TallystickError as error:
        step = error.next_step or "Check the database."
        exam.problem("database", error.detail, step)
    return False


async def _examine(exam: Examination, db: Database) -> bool:
    if _is_missing(db):
        said = f"there is no database at {db.writer.url.database} yet"
        step = "Run `tallystick migrate`; `tallystick serve` makes it as well."
        exam.warn("database", said, step)
        return False
    await check_database(db)
    if db.is_sqlite:
        exam.ok("database", "SQLite, with the schema of this version")
        return True
    exam.ok("database", "PostgreSQL, with the schema of this version")
    with reachable():
        await db.measure_clock()
    off_ms = db.clock.now_ms() - SystemClock().now_ms()
    _tell_clock(exam, off_ms)
    return True


def _is_missing(db: Database) -> bool:
    path = db.writer.url.database
    return db.is_sqlite and path is not None and not Path(path).exists()


def _tell_clock(exam: Examination, off_ms: int) -> None:
    # Holds are judged by the database's clock, payments by this machine's.
    said = f"the database's clock is {abs(off_ms) / 1000:.1f} s off this machine's"
    step = "Let NTP set the clocks of both machines."
    if abs(off_ms) > _TOO_FAR_MS:
        exam.problem("database clock", said, step)
    elif abs(off_ms) > _WARN_MS:
        exam.warn("database clock", said, step)
    else:
        exam.ok("database clock", said)


async def examine_books(exam: Examination, settings: Settings) -> None:
    """Whether the books are of the nodes' chain, and what in them waits too long."""
    gate = build_gate(settings)
    try:
        await _examine_chain(exam, gate)
        await examine_paybacks(exam, gate.db, gate.rail)
        await examine_merchants(exam, gate.db, gate.rail)
    finally:
        await gate.db.close()
        await gate.rail.chain.close()


async def _examine_chain(exam: Examination, gate: Gate) -> None:
    exam.looking("whether the books fit the chain")
    try:
        await check_chain(gate.db, gate.rail)
    except BooksOfAnotherChain as error:
        exam.problem("books", error.detail, error.next_step or "")
    except (RpcUnavailable, RpcErrorAnswer) as error:
        exam.warn("books", f"not compared: {error.detail}", "Mend the nodes first.")
    else:
        exam.ok("books", "they belong to this chain, as far as they have an anchor")
