"""A limit gives what is left in its window, all that was asked or nothing."""

import time
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import select
from tests.credits.calls import give_back, limits_of, set_limit, take, used
from tests.credits.clocks import StandingClock

from tallystick.credits import limits
from tallystick.credits.errors import LimitReached, UnknownLimit
from tallystick.credits.limits import LimitTake
from tallystick.credits.models import LimitPeriod, SpendLimit
from tallystick.credits.windows import window_end_ms
from tallystick.kernel.clock import ms_of
from tallystick.kernel.db import Database, WriteSession, query
from tallystick.kernel.money import InvalidAmount

HOUR, DAY, MONTH, TOTAL = (
    LimitPeriod.HOUR,
    LimitPeriod.DAY,
    LimitPeriod.MONTH,
    LimitPeriod.TOTAL,
)


def at(*date: int) -> int:
    return ms_of(datetime(*date, tzinfo=UTC))


async def test_no_more_is_taken_than_the_limit_has(db: Database) -> None:
    one = await set_limit(db, 5)
    await take(db, (one, 3))
    with pytest.raises(LimitReached) as refused:
        await take(db, (one, 3))
    assert refused.value.status == 429
    assert refused.value.code == "limit_reached"
    said = "3 would be taken of the limit 'budget', and 2 is left"
    assert refused.value.detail == said
    expected = {"limit": "budget", "most": 5, "used": 3, "left": 2, "resets_at": None}
    assert refused.value.members == expected
    assert refused.value.retry_after_seconds is None, "waiting does not help"
    await take(db, (one, 2))
    assert await used(db, one) == 5


async def test_a_refusal_names_its_subject_to_the_operator_alone(db: Database) -> None:
    one = await set_limit(db, 0, subject="customer:7/feature:echo")
    with pytest.raises(LimitReached) as refused:
        await take(db, (one, 1))
    assert refused.value.for_operator == {"subject": "customer:7/feature:echo"}
    assert "customer:7" not in f"{refused.value.detail} {refused.value.members}"


async def test_a_short_limit_leaves_the_others_as_they_were(db: Database) -> None:
    first, second = await set_limit(db, 9), await set_limit(db, 1, name="uses")
    with pytest.raises(LimitReached) as refused:
        await take(db, (second, 2), (first, 2))
    assert refused.value.members["limit"] == "uses"
    assert (await used(db, first), await used(db, second)) == (0, 0)


async def test_a_swallowed_refusal_cannot_be_committed(db: Database) -> None:
    first, second = await set_limit(db, 9), await set_limit(db, 1, name="uses")

    async def careless(session: WriteSession) -> None:
        with pytest.raises(LimitReached):
            await limits.take(session, [LimitTake(first, 2), LimitTake(second, 2)])

    with pytest.raises(
        RuntimeError, match=r"^a limit was reached: what was taken must roll back"
    ):
        await db.write(careless)
    assert await used(db, first) == 0


async def test_one_limit_named_twice_gives_both_amounts_or_none(db: Database) -> None:
    one = await set_limit(db, 5)
    with pytest.raises(LimitReached):
        await take(db, (one, 3), (one, 3))
    await take(db, (one, 3), (one, 2))
    assert await used(db, one) == 5


async def test_taking_nothing_is_never_refused(db: Database) -> None:
    one = await set_limit(db, 5)
    await take(db, (one, 5))
    await set_limit(db, 1)
    assert await take(db, (one, 0)) == ()


async def test_taking_nothing_of_one_limit_spares_no_other(db: Database) -> None:
    """A free call still counts as a use."""
    budget, uses = await set_limit(db, 5), await set_limit(db, 1, name="uses")
    await take(db, (budget, 0), (uses, 1))
    with pytest.raises(LimitReached):
        await take(db, (budget, 0), (uses, 1))


@pytest.mark.parametrize("amount", [-1, 1 << 62, True, 1.5])
async def test_amounts_are_whole_numbers_from_nothing(
    db: Database, amount: int
) -> None:
    with pytest.raises(InvalidAmount, match=r"^a limit counts in whole numbers"):
        LimitTake(1, amount)
    with pytest.raises(InvalidAmount):
        await set_limit(db, amount)


async def test_the_largest_numbers_do_not_overflow(db: Database) -> None:
    largest = (1 << 62) - 1
    one = await set_limit(db, largest)
    await take(db, (one, largest))
    with pytest.raises(LimitReached):
        await take(db, (one, largest))
    assert await used(db, one) == largest


async def test_who_removes_a_limit_removes_no_other_of_the_subject(
    db: Database,
) -> None:
    """A key without its budget still has its quota."""
    await set_limit(db, 5)
    await set_limit(db, 7, LimitPeriod.DAY, name="uses")
    assert await db.write(
        lambda session: limits.remove_limit(session, "key:1", "budget")
    )
    (left,) = await limits_of(db)
    assert (left.name, left.most, left.period) == ("uses", 7, LimitPeriod.DAY)


async def test_a_removed_limit_is_told_apart_from_a_reached_one(db: Database) -> None:
    one = await set_limit(db, 5)
    remove = lambda session: limits.remove_limit(session, "key:1", "budget")  # noqa: E731  # said twice
    assert await db.write(remove)
    assert not await db.write(remove)
    with pytest.raises(UnknownLimit, match=r"^lim_.* names no limit"):
        await take(db, (one, 1))
    anew = await set_limit(db, 5)
    assert anew != one
    assert await used(db, anew) == 0


async def test_what_a_removed_limit_gave_does_not_reach_the_next(db: Database) -> None:
    one = await set_limit(db, 5)
    taken = await take(db, (one, 3))
    await db.write(lambda session: limits.remove_limits_of(session, "key:1"))
    anew = await set_limit(db, 5)
    await take(db, (anew, 4))
    await give_back(db, taken)
    assert await used(db, anew) == 4


async def test_all_limits_of_a_subject_that_is_no_more_go_at_once(db: Database) -> None:
    for subject in ("key:1", "key:10"):
        for name in ("budget", "uses"):
            await set_limit(db, 5, subject=subject, name=name)
    gone = await db.write(lambda session: limits.remove_limits_of(session, "key:1"))
    assert gone == 2
    assert {one.subject for one in await limits_of(db, "key:1", "key:10")} == {"key:10"}


async def test_a_changed_limit_keeps_what_was_used(db: Database) -> None:
    one = await set_limit(db, 5)
    await take(db, (one, 4))
    assert await set_limit(db, 9) == one
    await take(db, (one, 4))
    assert await set_limit(db, 2) == one
    (found,) = await limits_of(db)
    assert (found.most, found.used, found.left) == (2, 8, 0)
    with pytest.raises(LimitReached) as refused:
        await take(db, (one, 1))
    assert (refused.value.members["used"], refused.value.members["left"]) == (8, 0)


async def test_a_limit_is_of_one_subject_and_one_name(db: Database) -> None:
    ids = {
        await set_limit(db, 1, subject=subject, name=name)
        for subject in ("key:1", "key:2")
        for name in ("budget", "uses")
    }
    assert len(ids) == 4
    assert [one.subject for one in await limits_of(db, "key:2")] == ["key:2"] * 2
    assert await limits_of(db, "key:3") == []


@pytest.mark.parametrize(
    ("period", "ends"),
    [
        (HOUR, at(2027, 1, 15, 9)),
        (DAY, at(2027, 1, 16)),
        (MONTH, at(2027, 2, 1)),
    ],
)
async def test_a_limit_begins_anew_when_its_window_is_over(
    standing: Database, standing_clock: StandingClock, period: LimitPeriod, ends: int
) -> None:
    one = await set_limit(standing, 5, period)
    await take(standing, (one, 5))
    standing_clock.now = ends - 1
    with pytest.raises(LimitReached) as refused:
        await take(standing, (one, 1))
    assert refused.value.members["resets_at"].startswith(
        datetime.fromtimestamp(ends / 1000, UTC).isoformat()[:19]
    )
    assert refused.value.retry_after_seconds == 1
    standing_clock.now = ends
    (found,) = await limits_of(standing)
    assert (found.used, found.left) == (0, 5), "though nobody wrote it"
    assert found.resets_at_ms == window_end_ms(period, ends)
    await take(standing, (one, 4))
    (found,) = await limits_of(standing)
    assert (found.used, found.resets_at_ms) == (4, window_end_ms(period, ends))


async def test_waiting_is_advised_only_if_it_helps(
    standing: Database, standing_clock: StandingClock
) -> None:
    one = await set_limit(standing, 5, HOUR)
    with pytest.raises(LimitReached) as refused:
        await take(standing, (one, 6))
    assert refused.value.retry_after_seconds is None
    await take(standing, (one, 1))
    with pytest.raises(LimitReached) as refused:
        await take(standing, (one, 5))
    assert refused.value.retry_after_seconds == 3600
    standing_clock.now += 500
    with pytest.raises(LimitReached) as refused:
        await take(standing, (one, 5))
    assert refused.value.retry_after_seconds == 3600, "rounded up"


async def test_windows_that_nobody_used_need_nobody_to_close_them(
    standing: Database, standing_clock: StandingClock
) -> None:
    one = await set_limit(standing, 5, DAY)
    await take(standing, (one, 5))
    standing_clock.now = at(2031, 6, 5, 4, 3)
    (found,) = await limits_of(standing)
    assert (found.used, found.resets_at_ms) == (0, at(2031, 6, 6))
    await take(standing, (one, 5))
    assert await used(standing, one) == 5


async def test_a_clock_that_steps_back_does_not_reopen_a_window(
    standing: Database, standing_clock: StandingClock
) -> None:
    one = await set_limit(standing, 5, HOUR)
    await take(standing, (one, 5))
    standing_clock.now += 3_600_000
    await take(standing, (one, 3))
    standing_clock.now -= 60_000
    with pytest.raises(LimitReached):
        await take(standing, (one, 3))
    await take(standing, (one, 2))
    assert await used(standing, one) == 5


@pytest.mark.parametrize(
    ("period", "begins", "ends"),
    [
        (HOUR, at(2027, 1, 15, 8), at(2027, 1, 15, 9)),
        (HOUR, at(2027, 1, 15, 23), at(2027, 1, 16)),
        (DAY, at(2027, 1, 15), at(2027, 1, 16)),
        (DAY, at(2028, 2, 29), at(2028, 3, 1)),
    ],
)
def test_an_hour_and_a_day_end_where_the_clock_says(
    period: LimitPeriod, begins: int, ends: int
) -> None:
    for now in (begins, begins + 1, begins + 1_000_003, ends - 1):
        assert window_end_ms(period, now) == ends


@pytest.mark.parametrize(
    ("now", "month_ends"),
    [
        (at(2027, 1, 31, 23, 59, 59), at(2027, 2, 1)),
        (at(2027, 2, 28, 12), at(2027, 3, 1)),
        (at(2028, 2, 28, 23), at(2028, 3, 1)),
        (at(2028, 2, 29, 23), at(2028, 3, 1)),
        (at(2027, 12, 31, 23, 59, 59), at(2028, 1, 1)),
        (at(2028, 1, 1), at(2028, 2, 1)),
    ],
)
def test_a_month_ends_where_the_calendar_says(
    monkeypatch: pytest.MonkeyPatch, now: int, month_ends: int
) -> None:
    """In UTC, wherever the machine stands."""
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        _check_month(now, month_ends)
    finally:
        monkeypatch.undo()
        time.tzset()


def _check_month(now: int, month_ends: int) -> None:
    assert window_end_ms(MONTH, now) == month_ends
    assert window_end_ms(MONTH, month_ends - 1) == month_ends
    assert window_end_ms(TOTAL, now) is None


async def test_what_is_given_back_can_be_taken_again(db: Database) -> None:
    one, other = await set_limit(db, 5), await set_limit(db, 7, name="uses")
    taken = await take(db, (one, 2), (other, 3), (one, 3))
    await give_back(db, taken)
    assert (await used(db, one), await used(db, other)) == (0, 0)
    await take(db, (one, 5), (other, 7))


async def test_what_is_given_back_never_leaves_less_than_nothing_used(
    db: Database,
) -> None:
    """Whoever would give back twice must not find the door to his release locked."""
    one = await set_limit(db, 5)
    taken = await take(db, (one, 2))
    await take(db, (one, 1))
    await give_back(db, taken)
    await give_back(db, taken)
    assert await used(db, one) == 0
    with pytest.raises(LimitReached):
        await take(db, (one, 6))


async def test_what_is_given_back_does_not_reach_a_later_window(
    standing: Database, standing_clock: StandingClock
) -> None:
    one = await set_limit(standing, 5, HOUR)
    taken = await take(standing, (one, 4))
    standing_clock.now += 3_600_000
    await take(standing, (one, 5))
    await give_back(standing, taken)
    assert await used(standing, one) == 5


async def test_what_is_given_back_to_a_window_that_is_over_changes_nothing(
    standing: Database, standing_clock: StandingClock
) -> None:
    one = await set_limit(standing, 5, HOUR)
    taken = await take(standing, (one, 4))
    standing_clock.now += 3_600_000
    await give_back(standing, taken)
    (found,) = await limits_of(standing)
    assert (found.used, found.left) == (0, 5)
    await take(standing, (one, 5))


async def test_another_period_counts_on_and_takes_back(
    standing: Database, standing_clock: StandingClock
) -> None:
    one = await set_limit(standing, 5, HOUR)
    taken = await take(standing, (one, 4))
    assert await set_limit(standing, 5, DAY) == one
    standing_clock.now += 3_600_000
    assert await used(standing, one) == 4, "the hour is no end any more"
    await give_back(standing, taken)
    assert await used(standing, one) == 0
    await take(standing, (one, 3))
    await set_limit(standing, 5, TOTAL)
    standing_clock.now = at(2031, 1, 1)
    assert await used(standing, one) == 3


async def test_a_limit_that_is_set_again_after_its_window_begins_anew(
    standing: Database, standing_clock: StandingClock
) -> None:
    one = await set_limit(standing, 5, HOUR)
    taken = await take(standing, (one, 5))
    standing_clock.now += 3_600_000
    await set_limit(standing, 3, HOUR)
    assert await used(standing, one) == 0
    await take(standing, (one, 2))
    await give_back(standing, taken)
    assert await used(standing, one) == 2


async def test_a_session_that_has_read_a_limit_reads_its_own_takes(
    db: Database,
) -> None:
    one = await set_limit(db, 5)

    async def work(session: WriteSession) -> list[int]:
        kept = (await session.exec(select(SpendLimit))).one()
        seen = [kept.most - kept.used]
        taken = await limits.take(session, [LimitTake(one, 3)])
        seen.append((await limits.limits_of(session, ["key:1"]))[0].left)
        await limits.give_back(session, taken)
        seen.append((await limits.limits_of(session, ["key:1"]))[0].left)
        return seen

    assert await db.write(work) == [5, 2, 5]


async def test_a_lowered_limit_is_what_the_next_window_allows_at_most(
    standing: Database, standing_clock: StandingClock
) -> None:
    one = await set_limit(standing, 9, HOUR)
    await take(standing, (one, 8))
    await set_limit(standing, 3, HOUR)
    assert await _figures(standing) == (9, 0, window_end_ms(HOUR, standing_clock.now))
    standing_clock.now += 3_600_000
    await take(standing, (one, 1))
    assert await _figures(standing) == (3, 1, window_end_ms(HOUR, standing_clock.now))


async def test_who_sets_a_limit_after_its_window_opens_the_next_as_a_whole(
    standing: Database, standing_clock: StandingClock
) -> None:
    """Else what is taken next would be counted in a window that nobody opened."""
    one = await set_limit(standing, 9, HOUR)
    await take(standing, (one, 8))
    standing_clock.now += 3_600_000
    await set_limit(standing, 3, HOUR)
    assert await _figures(standing) == (3, 1, window_end_ms(HOUR, standing_clock.now))


async def _figures(db: Database) -> tuple[int, int, int]:
    """The most that the database lets a window use, the window, and its end."""
    async with db.read() as session:
        (row,) = await query(
            session, "SELECT highest, window_number, ends_at_ms FROM spend_limit"
        )
    return row["highest"], row["window_number"], row["ends_at_ms"]


async def test_room_is_made_once_for_however_many_limits_are_reached(
    db: Database,
) -> None:
    first, second = await set_limit(db, 1), await set_limit(db, 1, name="uses")
    taken = await take(db, (first, 1))
    await take(db, (second, 1))
    made = []

    async def make_room(session: WriteSession) -> None:
        made.append(await limits.give_back(session, taken))

    both = [LimitTake(first, 1), LimitTake(second, 1)]
    with pytest.raises(LimitReached) as refused:
        await db.write(
            lambda session: limits.take(session, both, when_reached=make_room)
        )
    assert refused.value.members["limit"] == "uses"
    assert len(made) == 1
    assert (await used(db, first), await used(db, second)) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        "used = -1",
        "used = 6",
        "most = -1",
        "most = 6",
        "period = 'week'",
        "period = 'day'",
        "ends_at_ms = 3600000",
    ],
)
async def test_the_database_itself_refuses_figures_that_cannot_be(
    db: Database, change: str
) -> None:
    await set_limit(db, 5)
    with pytest.raises(IntegrityError):
        async with db.writer.begin() as connection:
            await connection.execute(text(f"UPDATE spend_limit SET {change}"))
    async with db.read() as session:
        (row,) = await query(session, "SELECT used, most, period FROM spend_limit")
    assert dict(row) == {"used": 0, "most": 5, "period": "total"}
