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
