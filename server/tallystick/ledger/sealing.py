"""Sealing what was posted, some time after and never on the way of a request.

Ids rise with time, but a transaction may become visible after one with a later id. So a
round seals what is older than a margin, and looks a while back for what came late: a
short way often, a long way at the start and now and then. What comes later than
``REACH_MS`` is not sealed any more; the audit takes it for slipped in.

A process whose clock was behind when it started, and is set right, has posted further
back than that. It remembers where, and no other does: so it looks there itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from tallystick.kernel.db import (
    Database,
    ReadSession,
    WriteSession,
    forbid_commit,
    insert_once,
    query,
)
from tallystick.kernel.ids import first_id_at, made_at_ms
from tallystick.kernel.log import get_logger
from tallystick.ledger.digests import LOWEST, posted_down
from tallystick.ledger.links import BEFORE_THE_FIRST, Head, Link, unpacked
from tallystick.ledger.models import JournalSeal

REACH_MS = 3_600_000
_SHORT_MS = 20_000
_MARGIN_MS = 10_000
_LEFT_MS = 120_000
_AT_ONCE = 500
_HEAD = """
    SELECT installation.seals, number, digest, last_id
      FROM installation LEFT JOIN journal_seal ON number = (
           SELECT MAX(number) FROM journal_seal)"""
_IDS = """
    SELECT id FROM ledger_transaction
     WHERE id > :after AND id <= :through ORDER BY id LIMIT :limit"""
_SEALED = """
    SELECT transaction_ids FROM journal_seal
     WHERE last_id >= :first AND first_id <= :last"""
_COUNT = "UPDATE installation SET seals = :number WHERE seals = :number - 1 RETURNING 1"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SealedUpTo:
    """The end of the chain, its newest transaction, and how many seals were made."""

    head: Head
    last_id: int | None
    counted: int


async def sealed_up_to(session: ReadSession | WriteSession) -> SealedUpTo:
    """Where the chain ends, at ``BEFORE_THE_FIRST`` if nothing was sealed yet."""
    (row,) = await query(session, _HEAD)
    if row["number"] is None:
        return SealedUpTo(BEFORE_THE_FIRST, None, row["seals"])
    head = Head(row["number"], row["digest"])
    # A forger may have written words, which SQLite takes for a number.
    last_id = row["last_id"] if isinstance(row["last_id"], int) else None
    return SealedUpTo(head, last_id, row["seals"])


async def seal_due(db: Database) -> int:
    """Seal what came since the last time; how many seals were made.

    Several processes may do it at once, and be stopped at any moment.
    """
    async with db.read() as session:
        end = await sealed_up_to(session)
    through = _old_enough(db)
    after = min(end.last_id, _before(through, _SHORT_MS)) if end.last_id else LOWEST
    end, made = await _seal(db, end, after, through)
    return made


async def seal_late(db: Database) -> int:
    """Look all the way back for what came late, and tell the log the newest seal."""
    async with db.read() as session:
        end = await sealed_up_to(session)
    through = _old_enough(db)
    after = _before(min(end.last_id, through), REACH_MS) if end.last_id else LOWEST
    end, made = await _seal(db, end, after, through)
    if end.head.number:
        _log.info("journal_sealed", seal_digest=end.head.note)
    return made


async def seal_left_behind(db: Database) -> int:
    """Seal what this process posted before its clock was set forward; how many seals.

    Costs nothing where that was not. What it posted until some seconds before then was
    sealed then, so the look is a short one; but it is repeated, for who commits late.
    """
    made = 0
    for one in db.ids.left_behind():
        async with db.read() as session:
            end = await sealed_up_to(session)
        after = max(one.first - 1, _before(one.last, _LEFT_MS))
        _, more = await _seal(db, end, after, one.last)
        made += more
    return made


def _old_enough(db: Database) -> int:
    return first_id_at(db.clock.now_ms() - _MARGIN_MS)


def _before(transaction_id: int, milliseconds: int) -> int:
    return first_id_at(made_at_ms(transaction_id) - milliseconds)


async def _seal(
    db: Database, end: SealedUpTo, after: int, through: int
) -> tuple[SealedUpTo, int]:
    """The new end of the chain, and how many seals were made."""
    made = 0
    if end.head.number != end.counted:
        # To go on would cover up that the last ones were taken away.
        _log.error("journal_seals_missing", made=end.counted, last=end.head.number)
        return end, made
    while ids := await _next_ids(db, after, through):
        after = ids[-1]
        if unsealed := await _unsealed(db, ids):
            link = Link.after(end.head, unsealed, now_ms=db.clock.now_ms())
            if not await db.write(partial(_append, link)):
                break
            end, made = replace(end, head=Head(link.number, link.digest())), made + 1
    return end, made


async def _next_ids(db: Database, after: int, through: int) -> list[int]:
    async with db.read() as session:
        found = await query(session, _IDS, after=after, through=through, limit=_AT_ONCE)
    return [row["id"] for row in found]


async def _unsealed(db: Database, ids: Sequence[int]) -> dict[int, bytes]:
    """The digests of those of the ids, which follow each other, that no seal has."""
    async with db.read() as session:
        seals = await query(session, _SEALED, first=ids[0], last=ids[-1])
        left = set(ids).difference(*[unpacked(row["transaction_ids"]) for row in seals])
        if not left:
            return {}
        posted = await posted_down(session, first=min(left), last=max(left))
    return {one: posted[one].digest() for one in left}


async def _append(link: Link, session: WriteSession) -> bool:
    """Whether nobody was faster; raises ``RuntimeError`` when seals were taken away."""
    ids = unpacked(link.transaction_ids)
    row: dict[str, object] = {
        "number": link.number,
        "first_id": ids[0],
        "last_id": ids[-1],
        "sealed_at_ms": link.sealed_at_ms,
        "previous": link.previous,
        "digest": link.digest(),
        "transaction_ids": link.transaction_ids,
        "digests": link.digests,
        "format": link.format,
    }
    if not await insert_once(session, JournalSeal, row):
        return False
    if not await query(session, _COUNT, number=link.number):
        forbid_commit(session, "the journal's seals were tampered with")
    return True
