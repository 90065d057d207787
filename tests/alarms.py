"""The audit of what is new, over books that are sound."""

from tallystick.kernel.db import Database
from tallystick.ledger.audit_rounds import Checkpoint
from tallystick.ledger.findings import Finding
from tallystick.ledger.links import BEFORE_THE_FIRST
from tallystick.workers.books import AT_ONCE, audit_recent

FROM_THE_FIRST = Checkpoint(BEFORE_THE_FIRST)
"""A checkpoint since which everything is new."""

# The ledger and its credits are tested without uses and customers of other rooms.
_OF_OTHER_ROOMS = (
    "I3 a customer's account has its customer",
    "I17 every charge has its use",
)


async def found_since(
    db: Database, since: Checkpoint = FROM_THE_FIRST, *, at_once: int = AT_ONCE
) -> list[Finding]:
    """What a round finds, but for what tests of the ledger alone leave out."""
    async with db.snapshot() as session:
        found = await audit_recent(session, since, at_once=at_once)
    return [one for one in found.findings if one.invariant not in _OF_OTHER_ROOMS]


async def require_no_false_alarm(db: Database, *, at_once: int = AT_ONCE) -> None:
    """To a round all of it is new, however it is divided."""
    assert await found_since(db, at_once=at_once) == []


async def next_round(db: Database, since: Checkpoint, *, slice_: int = 1) -> Checkpoint:
    """From where the round after goes on, for this one finds nothing."""
    async with db.snapshot() as session:
        found = await audit_recent(session, since, slice_=slice_)
    unsound = [one for one in found.findings if one.invariant not in _OF_OTHER_ROOMS]
    assert unsound == []
    return found.checkpoint
