"""What another process may change is looked at once for all who wait for it here."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlmodel import col, select

from tallystick.kernel.db import Database
from tallystick.payments.changes import Change, Changes
from tallystick.payments.models.topups import PENDING_STATES, TopUp

_AT_ONCE = 500


class Lookout:
    """The top-ups for which this process has somebody waiting."""

    def __init__(self) -> None:
        self._awaited: Counter[int] = Counter()
        self._looked_at = 0.0

    @contextmanager
    def waiting_for(self, topup_id: int) -> Iterator[None]:
        """Be somebody for whom others look, too."""
        self._awaited[topup_id] += 1
        try:
            yield
        finally:
            self._awaited[topup_id] -= 1
            if not self._awaited[topup_id]:
                del self._awaited[topup_id]

    async def until(
        self,
        db: Database,
        changes: Changes,
        change: Change,
        deadline: float,
        every_seconds: float,
    ) -> None:
        """Return once the change has come or the deadline, in the event loop's time.

        Of all who wait, one looks every so often and tells the others.
        """
        now = asyncio.get_running_loop().time
        since = now()
        while not change.has_come and (left := deadline - now()) > 0:
            due_in = max(self._looked_at, since) + every_seconds - now()
            await change.within(min(left, max(due_in, 0)))
            is_due = now() >= max(self._looked_at, since) + every_seconds
            if is_due and not change.has_come:
                self._looked_at = now()
                await self._look(db, changes)

    async def _look(self, db: Database, changes: Changes) -> None:
        awaited = sorted(self._awaited)
        for start in range(0, len(awaited), _AT_ONCE):
            over = await _known(db, awaited[start : start + _AT_ONCE])
            for one in over:
                changes.notify(one)


async def _known(db: Database, topup_ids: Sequence[int]) -> Sequence[int]:
    """Those whose outcome is known."""
    query = select(TopUp.id).where(
        col(TopUp.id).in_(topup_ids), col(TopUp.state).not_in(PENDING_STATES)
    )
    async with db.read() as session:
        return (await session.exec(query)).all()
