"""Books and chain compared every minute; a difference is an alarm line in the log."""

from collections.abc import Awaitable, Callable

from tallystick.kernel.db import Database
from tallystick.kernel.errors import Unavailable
from tallystick.kernel.log import get_logger
from tallystick.payments.observing.matching import Rate
from tallystick.payments.observing.rereading import Reread
from tallystick.payments.rail import Compared, Rail
from tallystick.payments.reconciling.differences import next_step
from tallystick.payments.reconciling.finalized import reconcile_finalized
from tallystick.payments.reconciling.mending import mend
from tallystick.payments.reconciling.reconcile import Reconciliation

_log = get_logger(__name__)
_Mending = Callable[[Reconciliation], Awaitable[Reread]]


async def compare_and_mend(
    db: Database, rail: Rail, rate: Rate, *, hold_seconds: int
) -> Compared:
    """As ``compare``, and what a node had kept back is booked before anybody is told."""
    return await compare(
        db, rail, lambda found: mend(db, rail, rate, found, hold_seconds=hold_seconds)
    )


async def compare(
    db: Database, rail: Rail, mending: _Mending | None = None
) -> Compared:
    """One comparison at the final block, told to the log and kept for who asks.

    Raises ``RpcUnavailable`` and what ``reconcile_finalized`` does; the last outcome is
    kept then, and its age tells.
    """
    if rail.outlook.compares_since_ms is None:
        rail.outlook.compares_since_ms = db.clock.now_ms()
    found = await reconcile_finalized(db, rail, seals=True)
    if found.findings and mending is not None and await _has_read(mending, found):
        found = await reconcile_finalized(db, rail, seals=True)
    for one in found.findings:
        _log.error(
            "books_differ",
            invariant=one.invariant,
            detail=one.detail,
            next_step=next_step(one),
        )
    before = rail.outlook.compared
    if before is not None and before.findings and not found.findings:
        _log.info("books_agree_again", block=found.block_number)
    rail.outlook.compared = Compared(
        db.clock.now_ms(),
        found.block_number,
        found.ledger_usdc,
        found.chain_usdc,
        tuple(f"{one.invariant}: {one.detail}" for one in found.findings),
    )
    return rail.outlook.compared


async def _has_read(mending: _Mending, found: Reconciliation) -> bool:
    """Whether to compare anew: this process may have booked it, or another one."""
    try:
        await mending(found)
    except Unavailable as error:
        # What differs is told all the same.
        _log.warning("not_read_again", code=error.code, **error.for_operator)
        return False
    return True
