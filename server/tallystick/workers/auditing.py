"""A server audits its own books: what is new every minute, all of it every night."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from tallystick.kernel.db import Database
from tallystick.kernel.log import get_logger
from tallystick.ledger.audit_rounds import (
    AuditKind,
    Checkpoint,
    Claim,
    claim_audit,
    finish_audit,
    give_back,
    keep_claim,
)
from tallystick.ledger.findings import Finding
from tallystick.workers.books import Round, audit_books, audit_recent

_LEASE_MS = 300_000
_KEPT_SECONDS = 60.0
# A little less than the pause between rounds, which all processes make.
_RECENT_MS = 50_000
_DAY_MS = 24 * 3600 * 1000
_NIGHT_MS = 3 * 3600 * 1000
"""The whole is audited once a day, from three o'clock UTC on."""
_AGAIN_MS = 3600 * 1000
"""And after so long again while it is unsound, to say when it is sound again."""
_LONGEST_PAUSE_MS = {AuditKind.RECENT: _RECENT_MS, AuditKind.WHOLE: _DAY_MS}
_NEXT_STEP = (
    "Somebody or something changed the database: take a backup of it as it is,"
    " then run `tallystick audit`."
)

_log = get_logger(__name__)


class Auditor:
    """This process's part in the audits, of which each is made by one process."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._claimant = secrets.token_bytes(16)
        self._has_begun = False

    async def recent(self) -> bool:
        """Audit what is new, if nobody did in this minute; whether it was done here.

        The first time in any case. The checkpoint stays where something is found, so
        the next round meets it again.
        """
        claim = await self._claim(AuditKind.RECENT, at_once=not self._has_begun)
        if claim is None:
            return False
        self._has_begun = True
        async with self._giving_back(claim), self._kept(claim):
            checkpoint, is_end = claim.checkpoint, False
            while not is_end:
                found = await self._round(checkpoint)
                is_end = found.is_end or bool(found.findings)
                if not found.findings:
                    checkpoint = found.checkpoint
            await self._finish(claim, found.findings, checkpoint, _RECENT_MS)
        return True

    async def whole(self) -> bool:
        """Audit everything, if it is due; whether it was done here."""
        claim = await self._claim(AuditKind.WHOLE)
        if claim is None:
            return False
        async with self._giving_back(claim), self._kept(claim):
            async with self._db.snapshot() as session:
                findings = await audit_books(session)
            due_ms = _AGAIN_MS if findings else _until_night(self._db.clock.now_ms())
            await self._finish(claim, findings, claim.checkpoint, due_ms)
        return True

    async def _claim(self, kind: AuditKind, *, at_once: bool = False) -> Claim | None:
        return await self._db.write(
            lambda session: claim_audit(
                session,
                kind,
                self._claimant,
                lease_ms=_LEASE_MS,
                pause_ms=_LONGEST_PAUSE_MS[kind],
                at_once=at_once,
            )
        )

    async def _round(self, since: Checkpoint) -> Round:
        async with self._db.snapshot() as session:
            return await audit_recent(session, since)

    async def _finish(
        self,
        claim: Claim,
        findings: Sequence[Finding],
        checkpoint: Checkpoint,
        pause_ms: int,
    ) -> None:
        due_ms = self._db.clock.now_ms() + pause_ms
        finish = partial(
            finish_audit,
            claim=claim,
            findings=findings,
            checkpoint=checkpoint,
            due_ms=due_ms,
        )
        if await self._db.write(finish):
            _tell(claim, findings)

    @asynccontextmanager
    async def _giving_back(self, claim: Claim) -> AsyncIterator[None]:
        """Where it fails, nobody has to wait until the claim lapses."""
        try:
            yield
        except BaseException:
            # Who is stopped is in a hurry, and a database that is gone takes nothing.
            with contextlib.suppress(Exception):
                await self._db.write(partial(give_back, claim=claim))
            raise

    @asynccontextmanager
    async def _kept(self, claim: Claim) -> AsyncIterator[None]:
        """The claim does not lapse as long as this lasts."""
        keeping = asyncio.create_task(
            _every(
                _KEPT_SECONDS,
                lambda: self._db.write(
                    partial(keep_claim, claim=claim, lease_ms=_LEASE_MS)
                ),
            )
        )
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:  # noqa: BLE001  # there are several tries in a lease
            _log.exception("audit_claim_not_kept")


def _until_night(now_ms: int) -> int:
    """How long until the next night begins."""
    return _DAY_MS - (now_ms - _NIGHT_MS) % _DAY_MS


def _tell(claim: Claim, findings: Sequence[Finding]) -> None:
    for one in findings:
        _log.error(
            "books_unsound",
            audit=claim.kind.value,
            invariant=one.invariant,
            detail=one.detail,
            next_step=_NEXT_STEP,
        )
    if claim.before and not findings:
        _log.info("books_sound_again", audit=claim.kind.value)
