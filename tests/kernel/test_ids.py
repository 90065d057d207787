"""Ids rise, differ between processes, and are opaque outside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.ids import (
    SLOTS,
    IdFactory,
    UnknownId,
    decode_id,
    encode_id,
    first_id_at,
    made_at_ms,
)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


class _SetClock:
    def __init__(self, now_ms: int) -> None:
        self.now = now_ms

    def now_ms(self) -> int:
        return self.now


@given(
    st.lists(st.integers(-10_000, 10_000), min_size=2, max_size=50),
    st.integers(0, SLOTS - 1),
)
def test_ids_rise_whatever_the_clock_does(steps: list[int], slot: int) -> None:
    clock = _SetClock(1_800_000_000_000)
    factory = IdFactory(clock, slot)
    made = []
    for step in steps:
        clock.now += step
        made += [factory.new(), factory.new()]
    assert made == sorted(set(made))
    assert all(0 < one < 1 << 63 for one in made)


@given(st.integers(1_735_689_600_000, 3_900_000_000_000), st.integers(0, SLOTS - 1))
def test_an_id_tells_when_it_was_made(now_ms: int, slot: int) -> None:
    made = IdFactory(_SetClock(now_ms), slot).new()
    assert made_at_ms(made) == now_ms
    assert first_id_at(now_ms) <= made < first_id_at(now_ms + 1)


def test_a_clock_that_stands_still_gives_more_ids_than_a_millisecond_has() -> None:
    factory = IdFactory(_SetClock(1_800_000_000_000), slot=1)
    made = [factory.new() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_a_clock_before_our_epoch_still_gives_rising_positive_ids() -> None:
    factory = IdFactory(_SetClock(0), slot=1)
    made = [factory.new() for _ in range(10)]
    assert made == sorted(set(made))
    assert made[0] > 0


def test_processes_of_different_slots_never_make_the_same_id() -> None:
    clock = _SetClock(1_800_000_000_000)
    factories = [IdFactory(clock, slot) for slot in range(SLOTS)]
    made = [one.new() for one in factories for _ in range(5)]
    assert len(set(made)) == len(made)


def test_a_later_process_makes_larger_ids() -> None:
    clock = OffsetClock()
    earlier = IdFactory(clock, slot=900).new()
    clock.advance(1)
    assert IdFactory(clock, slot=3).new() > earlier


@given(st.integers(0, (1 << 63) - 1))
def test_an_id_survives_its_text(number: int) -> None:
    text = encode_id("cus", number)
    assert decode_id("cus", text) == number
    assert len(text) == len("cus_") + 13


@given(st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 63) - 1))
def test_texts_sort_as_their_ids_do(one: int, other: int) -> None:
    assert (one < other) == (encode_id("cus", one) < encode_id("cus", other))


def test_the_documented_example_is_true() -> None:
    assert encode_id("cus", 42) == "cus_000000000001a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cus",
        "cus_",
        "hld_000000000001a",
        "cus_000000000001",
        "cus_0000000000001a",
        "cus_000000000001A",
        "cus_000000000001l",
        "cus_00000000000 a",
        "cus__00000000001a",
        "CUS_000000000001a",
        "cus_000000000001a ",
        "cus_00000000000\u0661a",
        "cus_8000000000000",
        "cus_zzzzzzzzzzzzz",
        "cus_" + "0" * 100_000,
    ],
)
def test_other_text_names_nothing(text: str) -> None:
    with pytest.raises(UnknownId) as refusal:
        decode_id("cus", text)
    assert len(refusal.value.detail) < 100


@given(st.text(max_size=20))
def test_no_text_decodes_to_anything_that_encodes_differently(body: str) -> None:
    text = f"cus_{body}"
    try:
        number = decode_id("cus", text)
    except UnknownId:
        assert len(body) != 13 or not set(body) <= set(_ALPHABET) or body >= "8"
    else:
        assert encode_id("cus", number) == text


class _Elapsed:
    """Time that really passes, by a clock that may be set besides."""

    def __init__(self) -> None:
        self.clock, self.elapsed = _SetClock(1_800_000_000_000), 7_000

    def factory(self) -> IdFactory:
        return IdFactory(self.clock, 1, lambda: self.elapsed)

    def pass_(self, ms: int) -> None:
        self.clock.now += ms
        self.elapsed += ms


def test_what_a_clock_that_is_set_forward_leaves_behind_is_known_for_an_hour() -> None:
    time = _Elapsed()
    factory = time.factory()
    first, _, last = [factory.new() for _ in range(3)]
    assert factory.left_behind() == []
    time.clock.now += 7_200_000
    for _ in range(2):
        ((found),) = factory.left_behind()
        assert (found.first, found.last) == (first, last)
        factory.new()
    time.pass_(3_600_000)
    assert factory.left_behind() == [found]
    time.pass_(1)
    assert factory.left_behind() == []


def test_also_when_an_id_is_made_before_anybody_asks() -> None:
    time = _Elapsed()
    factory = time.factory()
    made = factory.new()
    time.clock.now += 60_001
    later = factory.new()
    ((found),) = factory.left_behind()
    assert (found.first, found.last) == (made, made)
    time.clock.now += 60_001
    assert [one.last for one in factory.left_behind()] == [made, later]


def test_time_that_passes_and_a_clock_set_back_leave_nothing_behind() -> None:
    time = _Elapsed()
    factory = time.factory()
    factory.new()
    time.pass_(30 * 24 * 3_600_000)
    assert factory.left_behind() == []
    time.clock.now -= 7_200_000
    factory.new()
    time.clock.now += 60_000
    assert factory.left_behind() == [], "so little is for the other rounds"


def test_a_clock_that_is_set_for_ever_fills_no_memory() -> None:
    time = _Elapsed()
    factory = time.factory()
    made = []
    for _ in range(20):
        made.append(factory.new())
        time.clock.now += 100_000
    assert [one.last for one in factory.left_behind()] == made[-8:]
