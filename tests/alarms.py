"""The audit of what is new, over books that are sound."""

from tallystick.kernel.db import Database
from tallystick.ledger.audit_rounds import Checkpoint
from tallystick.ledger.findings import Finding
from tallystick.ledger.links import BEFORE_THE_FIRST
from tallystick.workers.books import audit_recent

FROM_THE_FIRST = Checkpoint(BEFORE_THE_FIRST)
"""A checkpoint since which everything is new."""

# The ledger and its credits are tested without uses and customers of other rooms.
_OF_OTHER_ROOMS = (
    "I3 a customer's account has its customer",
    "I17 every charge has its use",
)


async def found_since(
    db: Database, since: Checkpoint = FROM_THE_FIRST
) -> list[Finding]:
    """What a round finds, but for what tests of the ledger alone leave out."""
    async with db.snapshot() as session:
        found = await audit_recent(session, since)
    return [one for one in found.findings if one.invariant not in _OF_OTHER_ROOMS]


async def require_no_false_alarm(db: Database) -> None:
    """To a round all of it is new."""
    assert await found_since(db) == []
