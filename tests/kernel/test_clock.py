"""Processes on several machines agree on the time."""

from tallystick.kernel.clock import OffsetClock, SharedClock, SystemClock
from tallystick.kernel.db import Database


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
