"""How far the books were audited, by whom, and what was found: a row for each kind.

Of several processes one audits: who changes the row's claim does, and who finds it
changed does not. A claim that nobody gives back lapses, so an audit that was broken off
is made again. What was found stands in the row, so every process can tell it.

A clock that was ahead once must not keep audits away until it is that time again: what
lies further ahead than it can when all clocks are right is not waited for.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlmodel import Field, SQLModel

from tallystick.kernel.db import (
    ReadSession,
    WriteSession,
    insert_once,
    now_ms,
    query,
)
from tallystick.kernel.tables import big_column, bytes_column
from tallystick.ledger.digests import LOWEST
from tallystick.ledger.findings import Finding
from tallystick.ledger.links import BEFORE_THE_FIRST, Head

_CLAIM = """
    UPDATE books_audit SET claimed_until_ms = :until, claimant = :claimant
     WHERE kind = :kind
       AND (claimed_until_ms <= :now OR claimed_until_ms > :longest_claim)
       AND (due_ms <= :due OR due_ms > :longest_pause
            OR COALESCE(audited_ms, since_ms) > :ahead)
    RETURNING seal_number, seal_digest, through_id, slice_after, findings"""
_KEEP = """
    UPDATE books_audit SET claimed_until_ms = :until
     WHERE kind = :kind AND claimant = :claimant RETURNING 1"""
_FINISH = """
    UPDATE books_audit
       SET claimed_until_ms = 0, claimant = NULL, due_ms = :due, audited_ms = :now,
           findings = :findings, seal_number = :number, seal_digest = :digest,
           through_id = :through_id, slice_after = :slice_after
     WHERE kind = :kind AND claimant = :claimant RETURNING 1"""
_GIVE_BACK = """
    UPDATE books_audit SET claimed_until_ms = 0, claimant = NULL
     WHERE kind = :kind AND claimant = :claimant RETURNING 1"""
_TOLD = """
    SELECT kind, since_ms, audited_ms, findings FROM books_audit
     WHERE kind IN ('recent', 'whole') ORDER BY kind"""
_FOR_EVER_MS = (1 << 62) - 1
_CLOCKS_DIFFER_MS = 5_000
"""Clocks of several processes differ, and no more than by this."""


class AuditKind(StrEnum):
    """How much is looked at."""

    RECENT = "recent"
    """What is new since the checkpoint, and a slice of the accounts."""
    WHOLE = "whole"
    """Everything."""


class BooksAudit(SQLModel, table=True):
    """The last audit of a kind, and who makes the next one.

    ``seal_number`` and ``seal_digest`` note the last seal that was audited, and
    ``through_id`` the newest transaction sealed until then; without a number there is no
    checkpoint yet. ``slice_after`` is the account up to which slices were looked at.
    ``findings`` are JSON: pairs of an invariant and what was found.
    """

    __tablename__ = "books_audit"

    kind: str = Field(primary_key=True)
    since_ms: int = Field(sa_column=big_column())
    audited_ms: int | None = Field(default=None, sa_column=big_column(nullable=True))
    due_ms: int = Field(sa_column=big_column())
    claimed_until_ms: int = Field(sa_column=big_column())
    claimant: bytes | None = Field(
        default=None, sa_column=bytes_column(size=16, nullable=True)
    )
    findings: str
    seal_number: int | None = Field(default=None, sa_column=big_column(nullable=True))
    seal_digest: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    through_id: int = Field(sa_column=big_column())
    slice_after: int = Field(sa_column=big_column())


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was audited and found sound: the seal, its newest transaction, the slice.

    ``head`` is None where nobody has audited yet.
    """

    head: Head | None = None
    through_id: int = LOWEST
    slice_after: int = LOWEST


@dataclass(frozen=True, slots=True)
class Claim:
    """An audit that this process makes; ``before`` is what the last one found."""

    kind: AuditKind
    claimant: bytes
    checkpoint: Checkpoint
    before: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Audited:
    """The last audit of a kind; its age in seconds, from the first claim if none ended.

    One that lies ahead by this process's clock did not end, for nobody knows when it
    was. If the first claim lies ahead as well, the age is that of the Unix epoch.
    """

    kind: str
    age_seconds: int
    findings: tuple[Finding, ...]


async def claim_audit(
    session: WriteSession,
    kind: AuditKind,
    claimant: bytes,
    *,
    lease_ms: int,
    pause_ms: int,
    at_once: bool = False,
) -> Claim | None:
    """The audit, if it is due, or asked for ``at_once``, and nobody makes it.

    ``pause_ms`` is the longest that may lie between two. What is claimed or due at a
    time further ahead than lease or pause was noted by a clock that was wrong.
    """
    now = now_ms(session)
    row: dict[str, object] = {
        "kind": kind.value,
        "since_ms": now,
        "due_ms": now,
        "claimed_until_ms": 0,
        "findings": "[]",
        "through_id": LOWEST,
        "slice_after": LOWEST,
    }
    await insert_once(session, BooksAudit, row)
    rows = await query(
        session,
        _CLAIM,
        kind=kind.value,
        claimant=claimant,
        until=now + lease_ms,
        now=now,
        longest_claim=now + lease_ms + _CLOCKS_DIFFER_MS,
        due=_FOR_EVER_MS if at_once else now,
        longest_pause=now + pause_ms + _CLOCKS_DIFFER_MS,
        ahead=now + _CLOCKS_DIFFER_MS,
    )
    if not rows:
        return None
    found = rows[0]
    head = None
    if found["seal_number"] is not None:
        head = Head(found["seal_number"], found["seal_digest"])
    checkpoint = Checkpoint(head, found["through_id"], found["slice_after"])
    return Claim(kind, claimant, checkpoint, _read(found["findings"]))


async def keep_claim(session: WriteSession, claim: Claim, *, lease_ms: int) -> bool:
    """Whether the audit is still ours, now for so long from now."""
    until = now_ms(session) + lease_ms
    kind, claimant = claim.kind.value, claim.claimant
    return bool(await query(session, _KEEP, until=until, kind=kind, claimant=claimant))


async def give_back(session: WriteSession, claim: Claim) -> None:
    """Let somebody else make the audit: this process could not."""
    await query(session, _GIVE_BACK, kind=claim.kind.value, claimant=claim.claimant)


async def finish_audit(
    session: WriteSession,
    claim: Claim,
    findings: Sequence[Finding],
    checkpoint: Checkpoint,
    *,
    due_ms: int,
) -> bool:
    """Whether the outcome is noted: not if the claim has lapsed to somebody else."""
    head = checkpoint.head
    told = json.dumps([[one.invariant, one.detail] for one in findings])
    rows = await query(
        session,
        _FINISH,
        kind=claim.kind.value,
        claimant=claim.claimant,
        due=due_ms,
        now=now_ms(session),
        findings=told,
        number=None if head is None else head.number,
        digest=None if head is None else head.digest,
        through_id=checkpoint.through_id,
        slice_after=checkpoint.slice_after,
    )
    return bool(rows)


async def audits(session: ReadSession | WriteSession) -> tuple[Audited, ...]:
    """What the last audit of each kind found; nothing where nobody has begun one."""
    now = now_ms(session)
    return tuple(
        Audited(
            row["kind"],
            _age_ms(now, row["audited_ms"], row["since_ms"]) // 1000,
            _read(row["findings"]),
        )
        for row in await query(session, _TOLD)
    )


def start_of(checkpoint: Checkpoint) -> Head:
    """The seal after which the next audit reads."""
    return checkpoint.head or BEFORE_THE_FIRST


def _age_ms(now: int, *noted: int | None) -> int:
    """Since the first of the times that is one and does not lie ahead."""
    for at_ms in noted:
        if at_ms is not None and at_ms <= now + _CLOCKS_DIFFER_MS:
            return max(now - at_ms, 0)
    return now


def _read(told: str) -> tuple[Finding, ...]:
    try:
        pairs = [(str(name), str(detail)) for name, detail in json.loads(told)]
    except (ValueError, TypeError):
        # Whoever wrote that must not keep the server from saying so.
        pairs = [("what an audit found", "its row was changed")]
    return tuple(Finding(*one) for one in pairs)
