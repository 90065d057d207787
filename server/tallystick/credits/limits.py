"""Spend limits: a key's budget, a quota, free uses; taken with the money.

A limit is at most so much for a subject in each window of a period. ``take`` runs in the
transaction of the charge or the hold that it limits, so both happen or neither
(docs/decisions/0017).

One UPDATE takes, rolls an ended window over, and is the verdict by its row count. No
sweeper is needed: a window that is over counts as empty for whoever asks. A window only
moves forward; a clock that steps back does not reopen an earlier one. Limits are locked
in the order of their ids, after the balance.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    bindparam,
    case,
    delete,
    literal,
    or_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, select

from tallystick.credits.errors import LimitReached, UnknownLimit
from tallystick.credits.models import LimitPeriod, SpendLimit
from tallystick.credits.windows import window_end_ms
from tallystick.kernel.db import (
    ReadSession,
    WriteSession,
    forbid_commit,
    new_id,
    now_ms,
)
from tallystick.kernel.money import AMOUNT_LIMIT, InvalidAmount

MakeRoom = Callable[[WriteSession], Awaitable[object]]
"""Sees to it that what nobody uses any more is given back, such as by lapsed holds.

Limits are locked by now, so what must be locked before them is written first
(``kernel.db.write_first``).
"""

_USED, _MOST = col(SpendLimit.used), col(SpendLimit.most)
_HIGHEST, _PERIOD = col(SpendLimit.highest), col(SpendLimit.period)
_ENDS, _WINDOW = col(SpendLimit.ends_at_ms), col(SpendLimit.window_number)
_TABLE = SpendLimit.__table__  # type: ignore[attr-defined]  # SQLModel makes it


def _number(value: int | None) -> ColumnElement[int]:
    return literal(value, BigInteger)


_RETURNED = bindparam("returned", type_=BigInteger)
_GIVE_BACK = (
    update(_TABLE)
    .where(
        _TABLE.c.id == bindparam("of_limit"),
        _TABLE.c.window_number == bindparam("of_window"),
    )
    # A hold must end even when the figures are wrong; the audit says that they are.
    .values(used=case((_USED > _RETURNED, _USED - _RETURNED), else_=_number(0)))
)


@dataclass(frozen=True, slots=True)
class LimitTake:
    """What a call takes of a limit, in what the limit counts; nothing is no taking.

    Who makes it knows the limit: the price for a budget in credits, 1 for one of uses,
    the quantity for a quota. ``in_credits`` says that what a hold leaves uncaptured
    goes back. Raises ``InvalidAmount``.
    """

    limit_id: int
    amount: int
    in_credits: bool = False

    def __post_init__(self) -> None:
        _check(self.amount)


class Taken(NamedTuple):
    """What was taken of a limit, and in which window."""

    limit_id: int
    amount: int
    window: int
    in_credits: bool


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit as it is now; ``resets_at_ms`` is ``None`` for one that never does."""

    id: int
    subject: str
    name: str
    most: int
    used: int
    period: LimitPeriod
    resets_at_ms: int | None

    @property
    def left(self) -> int:
        """What may still be taken; nothing when ``most`` was set below ``used``."""
        return max(self.most - self.used, 0)


async def set_limit(
    session: WriteSession, subject: str, name: str, most: int, period: LimitPeriod
) -> int:
    """Make the limit or change it; its id, which it keeps.

    What was used stays used, also when the period changes: then it counts in the new
    period's window. Raises ``InvalidAmount`` for a ``most`` that is negative.
    """
    _check(most)
    now = now_ms(session)
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    insert = (postgresql if is_postgresql else sqlite).insert(SpendLimit)
    new, over = insert.excluded, _is_over(now)
    statement = (
        insert.values(
            id=new_id(session),
            subject=subject,
            name=name,
            most=most,
            highest=most,
            used=0,
            period=period,
            ends_at_ms=window_end_ms(period, now),
            window_number=0,
        )
        .on_conflict_do_update(
            index_elements=["subject", "name"],
            set_={
                "most": new.most,
                "period": new.period,
                "highest": case(
                    (or_(over, new.most > _HIGHEST), new.most), else_=_HIGHEST
                ),
                "ends_at_ms": case(
                    (or_(over, new.period != _PERIOD), new.ends_at_ms), else_=_ENDS
                ),
                **_rolled(over),
            },
        )
        .returning(col(SpendLimit.id))
    )
    return int((await session.exec(statement)).scalar_one())


async def remove_limit(session: WriteSession, subject: str, name: str) -> bool:
    """Remove the limit, and what was used with it; whether there was one."""
    return await _remove(session, subject, col(SpendLimit.name) == name) == 1


async def remove_limits_of(session: WriteSession, subject: str) -> int:
    """Remove all limits of a subject that is no more, such as a revoked key; how many.

    Whoever ends a subject calls this: nobody else knows that it will not come back.
    """
    return await _remove(session, subject)


async def _remove(
    session: WriteSession, subject: str, *more: ColumnElement[bool]
) -> int:
    statement = (
        delete(SpendLimit)
        .where(col(SpendLimit.subject) == subject, *more)
        .execution_options(synchronize_session=False)
    )
    return int((await session.exec(statement)).rowcount)


async def limits_of(
    session: ReadSession | WriteSession, subjects: Iterable[str]
) -> list[Limit]:
    """The limits of these subjects by the session's clock, the oldest first."""
    named = col(SpendLimit.subject).in_(tuple(subjects))
    return await _read(session, named)


async def take(
    session: WriteSession,
    takes: Iterable[LimitTake],
    *,
    when_reached: MakeRoom | None = None,
) -> tuple[Taken, ...]:
    """Take from all of the limits, in their present windows.

    ``when_reached`` is called once if a limit is reached, before that limit is asked
    again. Taking nothing asks nobody. Raises ``LimitReached`` or ``UnknownLimit``;
    earlier limits were taken from by then, so ``Database.write`` will not commit.
    """
    taken = []
    for one in sorted(takes, key=lambda one: one.limit_id):
        if not one.amount:
            continue
        window = await _take_one(session, one)
        if window is None and when_reached is not None:
            await when_reached(session)
            when_reached = None
            window = await _take_one(session, one)
        if window is None:
            forbid_commit(session, "a limit was reached: what was taken must roll back")
            raise await _refusal(session, one)
        taken.append(Taken(one.limit_id, one.amount, window, one.in_credits))
    return tuple(taken)


async def _take_one(session: WriteSession, one: LimitTake) -> int | None:
    """The window that it was taken from; ``None`` when too little is left in it."""
    now = now_ms(session)
    over = _is_over(now)
    ends = {period: _number(window_end_ms(period, now)) for period in LimitPeriod}
    used = case((over, _number(0)), else_=_USED) + _number(one.amount)
    statement = (
        update(SpendLimit)
        .where(col(SpendLimit.id) == one.limit_id, used <= _MOST)
        .values(
            {
                **_rolled(over),
                "used": used,
                "highest": case((over, _MOST), else_=_HIGHEST),
                "ends_at_ms": case((over, case(ends, value=_PERIOD)), else_=_ENDS),
            }
        )
        .returning(_WINDOW)
        .execution_options(synchronize_session=False)
    )
    return (await session.exec(statement)).scalar_one_or_none()


async def _refusal(
    session: WriteSession, one: LimitTake
) -> LimitReached | UnknownLimit:
    rows = await _read(session, col(SpendLimit.id) == one.limit_id)
    if not rows:
        return UnknownLimit(one.limit_id)
    (found,) = rows
    return LimitReached(
        found.subject,
        found.name,
        one.amount,
        most=found.most,
        used=found.used,
        resets_at_ms=found.resets_at_ms,
        now=now_ms(session),
    )


async def _read(
    session: ReadSession | WriteSession, which: ColumnElement[bool]
) -> list[Limit]:
    query = select(SpendLimit).where(which).order_by(col(SpendLimit.id))
    # The session may know the rows from before our own UPDATEs.
    fresh = query.execution_options(populate_existing=True)
    now = now_ms(session)
    return [_seen(row, now) for row in (await session.exec(fresh)).all()]


async def give_back(session: WriteSession, taken: Sequence[Taken]) -> None:
    """Give back what was taken for nothing, each to the very window it came from.

    What came from a window that is over, or from a limit that was removed, is gone.
    """
    amounts: dict[tuple[int, int], int] = {}
    for one in taken:
        place = (one.limit_id, one.window)
        amounts[place] = amounts.get(place, 0) + one.amount
    if not amounts:
        return
    rows = [
        {"of_limit": limit_id, "of_window": window, "returned": amount}
        for (limit_id, window), amount in sorted(amounts.items())
    ]
    connection = await session.connection()
    await connection.execute(_GIVE_BACK, rows)


def pack_taken(taken: Sequence[Taken]) -> str | None:
    """How a hold's row remembers: ``[[limit, amount, window, in credits], …]``."""
    return json.dumps(taken, separators=(",", ":")) if taken else None


def unpack_taken(packed: str | None) -> tuple[Taken, ...]:
    """What ``pack_taken`` packed."""
    return tuple(Taken(*one) for one in json.loads(packed or "[]"))


def left_over(taken: Sequence[Taken], uncaptured: int) -> tuple[Taken, ...]:
    """What goes back when a call is charged less than it held: of credits, no more.

    A use stays used and a quantity was served, whatever the price came to.
    """
    return tuple(
        one._replace(amount=min(one.amount, uncaptured))
        for one in taken
        if one.in_credits and uncaptured
    )


def _check(number: int) -> None:
    if type(number) is not int or not 0 <= number < AMOUNT_LIMIT:
        raise InvalidAmount("a limit counts in whole numbers from 0, below 2**62")


def _seen(row: SpendLimit, now: int) -> Limit:
    period = LimitPeriod(row.period)
    used, resets_at_ms = row.used, row.ends_at_ms
    if resets_at_ms is not None and resets_at_ms <= now:
        used, resets_at_ms = 0, window_end_ms(period, now)
    return Limit(row.id, row.subject, row.name, row.most, used, period, resets_at_ms)


def _is_over(now: int) -> ColumnElement[bool]:
    return now >= _ENDS


def _rolled(over: ColumnElement[bool]) -> dict[str, ColumnElement[int]]:
    """What a new window begins with, if the old one is over."""
    return {
        "used": case((over, _number(0)), else_=_USED),
        "window_number": _WINDOW + case((over, _number(1)), else_=_number(0)),
    }
