import json as standard
from decimal import Decimal
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.kernel.json import AmbiguousJson, dumps, loads, loads_strictly

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters(exclude_categories=["Cs"]))
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text('aé"\\\n🙂'), inner),
    max_leaves=20,
)

_LIMIT = 10**30
_DECIMALS = st.decimals(-_LIMIT, _LIMIT, allow_nan=False, allow_infinity=False)


class Colour(StrEnum):
    RED = "red"


@given(_VALUES)
def test_other_values_are_written_as_the_standard_library_writes_them(
    value: object,
) -> None:
    expected = standard.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert dumps(value) == expected.encode()


@given(_DECIMALS)
def test_a_decimal_comes_back_equal_to_the_last_digit(number: Decimal) -> None:
    text = dumps({"credits": number})
    assert loads(text)["credits"] == number
    assert b"e" not in text.removeprefix(b'{"credits":').lower()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0.1", b"0.1"),
        ("0.10", b"0.1"),
        ("5.000", b"5"),
        ("1E+3", b"1000"),
        ("1E-6", b"0.000001"),
        ("-0.0", b"0"),
        ("-2.50", b"-2.5"),
        ("100", b"100"),
        # More digits than the default decimal context, or a float, could keep.
        ("1234567890123456789012345678.1234", b"1234567890123456789012345678.1234"),
    ],
)
def test_a_decimal_is_a_plain_json_number(number: str, text: bytes) -> None:
    assert dumps(Decimal(number)) == text


def test_fractions_are_read_as_decimals_and_whole_numbers_as_integers() -> None:
    read = loads('{"a": 0.1, "b": 3, "c": 1e2}')
    assert read == {"a": Decimal("0.1"), "b": 3, "c": Decimal(100)}
    assert [type(value) for value in read.values()] == [Decimal, int, Decimal]


def test_an_enum_is_written_as_its_text_and_a_tuple_as_a_list() -> None:
    assert dumps({"colour": Colour.RED, "pair": (1, 0.5)}) == (
        b'{"colour":"red","pair":[1,0.5]}'
    )


@pytest.mark.parametrize("number", [Decimal("NaN"), Decimal("Infinity"), float("nan")])
def test_what_is_no_number_is_refused_when_writing(number: Decimal) -> None:
    with pytest.raises(ValueError, match="no place in JSON"):
        dumps([number])


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "-Infinity", "{", ""])
def test_what_is_no_json_is_refused_when_reading(text: str) -> None:
    with pytest.raises(ValueError, match=r"no place in JSON|Expecting"):
        loads(text)


@pytest.mark.parametrize("value", [b"bytes", {1: 2}, {1, 2}, object()])
def test_what_json_does_not_know_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        dumps(value)


@pytest.mark.parametrize("deep", ["[" * 4 + "]" * 4, '{"a":' * 4 + "1" + "}" * 4])
def test_a_strangers_json_is_as_deep_as_is_allowed_and_no_deeper(deep: str) -> None:
    loads_strictly(deep, deepest=4)
    with pytest.raises(AmbiguousJson, match="nested"):
        loads_strictly(deep, deepest=3)


def test_a_strangers_json_names_each_member_once() -> None:
    assert loads_strictly('[{"a": 0.1}, {"a": 2}]', deepest=4)[1] == {"a": 2}
    with pytest.raises(AmbiguousJson, match="'a' twice"):
        loads_strictly('[{"a": 1, "\\u0061": 1}]', deepest=4)


@pytest.mark.parametrize(
    "text",
    [
        '{"owner": [' + "[]," * 10_000 + "1]}",
        '{"a": "[[", "b": [' + "{}," * 10_000 + "1]}",
        "[" * 20_000,
    ],
)
def test_a_strangers_json_has_not_so_many_containers_that_it_takes_long(
    text: str,
) -> None:
    with pytest.raises(AmbiguousJson, match="lists and objects"):
        loads_strictly(text, deepest=4)


@pytest.mark.parametrize("words", ["[{" * 10_000, '\\"[' * 10_000, "\\\\"])
def test_brackets_in_a_text_are_no_containers(words: str) -> None:
    text = f'{{"code": "{words}", "more": [1]}}'
    assert loads_strictly(text, deepest=4)["more"] == [1]


@pytest.mark.parametrize(
    "text", ['"' + '\\"[' * 200_000, '"' + '\\"[' * 200_000 + "\\"]
)
def test_a_text_that_does_not_end_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="Unterminated"):
        loads_strictly(text, deepest=4)
