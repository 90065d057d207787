"""Answers that nobody may ask for any more go.

Those of charges are the many, and an index by time would cost each of them as much as
its key does. So they are looked through in the order of their keys, some at a time.
"""

from sqlalchemy import delete, text
from sqlmodel import col, select

from tallystick.kernel.db import Database, WriteSession, now_ms
from tallystick.paywall.models import AnswerState, StoredAnswer

_AT_ONCE = 5_000
_FIRST = b""


async def forget_expired(session: WriteSession) -> int:
    """Drop the expired answers that are not those of charges; how many."""
    # Spelled out, so that a plan made for any state still uses their index.
    others = text("state <> 'charged'")
    expired = col(StoredAnswer.expires_at_ms) < now_ms(session)
    gone = await session.exec(delete(StoredAnswer).where(others, expired))
    return gone.rowcount


class Rounds:
    """Goes through the answers of charges, and begins again at the end."""

    def __init__(self, db: Database, *, at_once: int = _AT_ONCE) -> None:
        self._db = db
        self._at_once = at_once
        self._after = _FIRST

    async def go_on(self) -> int:
        """Look through the next ``at_once``; on, while many are old. How many went."""
        gone = 0
        while True:
            some, self._after = await self._db.write(self._forget)
            gone += some
            if some * 10 < self._at_once:
                return gone

    async def _forget(self, session: WriteSession) -> tuple[int, bytes]:
        last = await self._last(session)
        charged = col(StoredAnswer.state) == AnswerState.CHARGED
        expired = col(StoredAnswer.expires_at_ms) < now_ms(session)
        these = [col(StoredAnswer.key) > self._after, charged, expired]
        if last is not None:
            these.append(col(StoredAnswer.key) <= last)
        gone = await session.exec(delete(StoredAnswer).where(*these))
        return gone.rowcount, _FIRST if last is None else last

    async def _last(self, session: WriteSession) -> bytes | None:
        """The key to which it goes this time; None for the end."""
        key = col(StoredAnswer.key)
        query = select(key).where(key > self._after).order_by(key)
        return (
            await session.exec(query.offset(self._at_once - 1).limit(1))
        ).one_or_none()
