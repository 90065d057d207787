"""Processes on several machines agree on the time."""

import time

import pytest

from tallystick.kernel.clock import (
    OffsetClock,
    SharedClock,
    SteadyClock,
    SystemClock,
)
from tallystick.kernel.db import Database, open_database


class _SetClock:
    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


def test_a_reading_between_two_of_our_own_proves_no_difference() -> None:
    clock = SharedClock(_SetClock(5_000))
    clock.correct(before_ms=1_000, shared_ms=1_010, after_ms=1_020)
    assert clock.now_ms() == 5_000


def test_a_machine_that_is_late_or_early_is_corrected() -> None:
    clock = SharedClock(_SetClock(5_000))
    clock.correct(before_ms=1_000, shared_ms=4_020, after_ms=1_020)
    assert clock.now_ms() == 8_000
    clock.correct(before_ms=1_000, shared_ms=400, after_ms=1_020)
    assert clock.now_ms() == 4_400


def test_a_later_measurement_replaces_the_earlier_one() -> None:
    clock = SharedClock(_SetClock(5_000))
    clock.correct(before_ms=1_000, shared_ms=4_000, after_ms=1_000)
    clock.correct(before_ms=1_000, shared_ms=1_000, after_ms=1_000)
    assert clock.now_ms() == 5_000


def test_a_clock_can_be_moved_without_waiting() -> None:
    clock = OffsetClock()
    before = clock.now_ms()
    clock.advance(3600)
    assert clock.now_ms() - before >= 3_600_000
    assert abs(OffsetClock(-5_000).now_ms() + 5_000 - SystemClock().now_ms()) < 1_000


async def test_a_test_s_offset_survives_the_measurement(
    unaudited_db: Database, clock: OffsetClock
) -> None:
    clock.advance(86_400)
    await unaudited_db.measure_clock()
    assert abs(unaudited_db.clock.now_ms() - clock.now_ms()) < 1_000


def set_clock(monkeypatch: pytest.MonkeyPatch, by_seconds: int) -> None:
    """Set the clock of this machine, as this process sees it."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + by_seconds * 1_000_000_000)


@pytest.mark.parametrize("by_seconds", [3_000, -7_200])
def test_a_steady_clock_goes_on_when_the_machine_s_is_set(
    monkeypatch: pytest.MonkeyPatch, by_seconds: int
) -> None:
    clock, before = SteadyClock(), SystemClock().now_ms()
    set_clock(monkeypatch, by_seconds)
    time.sleep(0.02)
    assert 20 <= clock.now_ms() - before < 10_000


@pytest.mark.parametrize("by_seconds", [3_000, -7_200])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_machine_s_clock_that_is_set_moves_nobody_s_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch, by_seconds: int
) -> None:
    """Else the process would lapse the holds and lots of all others."""
    db = open_database(database_url)
    try:
        await db.start()
        before = db.clock.now_ms()
        set_clock(monkeypatch, by_seconds)
        assert 0 <= db.clock.now_ms() - before < 10_000
        await db.measure_clock()
        assert 0 <= db.clock.now_ms() - before < 10_000
    finally:
        await db.close()


@pytest.mark.parametrize("by_seconds", [3_000, -7_200])
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_machine_with_another_time_takes_the_server_s_at_its_start(
    database_url: str, monkeypatch: pytest.MonkeyPatch, by_seconds: int
) -> None:
    before = SystemClock().now_ms()
    set_clock(monkeypatch, by_seconds)
    db = open_database(database_url)
    try:
        await db.start()
        assert 0 <= db.clock.now_ms() - before < 10_000
    finally:
        await db.close()
