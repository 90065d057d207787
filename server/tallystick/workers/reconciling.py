"""Books and chain compared every minute; a difference is an alarm line in the log."""

from tallystick.kernel.db import Database
from tallystick.kernel.log import get_logger
from tallystick.payments.rail import Compared, Rail
from tallystick.payments.reconciling.differences import next_step
from tallystick.payments.reconciling.finalized import reconcile_finalized

_log = get_logger(__name__)


async def compare(db: Database, rail: Rail) -> Compared:
    """One comparison at the final block, told to the log and kept for who asks.

    Raises ``RpcUnavailable`` and what ``reconcile_finalized`` does; the last outcome is
    kept then, and its age tells.
    """
    if rail.outlook.compares_since_ms is None:
        rail.outlook.compares_since_ms = db.clock.now_ms()
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
