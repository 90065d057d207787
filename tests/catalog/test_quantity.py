from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.catalog.errors import InvalidQuantity
from tallystick.catalog.models import Catalog, Feature
from tallystick.catalog.quantity import quantity_of, read_quantity

Shop = Callable[..., Catalog]
ABSURD = [
    0,
    -1,
    "-1",
    "0",
    Decimal("0.0000001"),
    "1.0000001",
    1_000_001,
    10**30,
    pytest.param(10**5000, id="5001 digits"),
    "1e300",
    Decimal("1e400"),
    Decimal("NaN"),
    "Infinity",
    "",
    " 1",
    "1_000",
    "٣",
    "many",
    True,
    1.5,
    None,
    [1],
    {},
]


@pytest.fixture
def call() -> Feature:
    return Feature(slug="analyst", name="Analyst", price=1)


@pytest.fixture
def by_list(shop: Shop) -> Feature:
    return shop().feature("audit")


@pytest.fixture
def by_integer(shop: Shop) -> Feature:
    return shop(counted="integer").feature("audit")


@pytest.mark.parametrize("value", ABSURD)
def test_an_absurd_quantity_is_refused(call: Feature, value: object) -> None:
    with pytest.raises(InvalidQuantity) as refused:
        read_quantity(call, value)
    assert refused.value.status == 422
    assert refused.value.members == {"feature": "analyst", "unit": "call"}
    assert refused.value.next_step


@pytest.mark.parametrize("value", ABSURD)
def test_an_absurd_parameter_is_refused_by_name(
    by_integer: Feature, value: object
) -> None:
    with pytest.raises(InvalidQuantity) as refused:
        quantity_of(by_integer, {"tokens": value})
    assert refused.value.members["parameter"] == "tokens"


@given(st.integers(10**6, 10**12))
def test_a_quantity_of_up_to_six_decimals_is_read_exactly(millionths: int) -> None:
    feature = Feature(slug="hour", name="Hour", price=1)
    quantity = Decimal(millionths).scaleb(-6)
    assert read_quantity(feature, quantity) == quantity
    assert read_quantity(feature, str(quantity)) == quantity


def test_the_bounds_of_the_feature_are_inclusive(by_list: Feature) -> None:
    assert read_quantity(by_list, 1) == 1
    assert read_quantity(by_list, 100) == 100
    for beyond in ("0.999999", "100.000001"):
        with pytest.raises(InvalidQuantity, match=r"below 1|above 100"):
            read_quantity(by_list, beyond)


def test_a_fraction_of_a_call_cannot_be_had_at_a_fraction_of_its_price(
    call: Feature,
) -> None:
    with pytest.raises(InvalidQuantity, match="below 1"):
        read_quantity(call, Decimal("0.5"))


def test_a_fraction_is_possible_where_the_feature_allows_it() -> None:
    hourly = Feature(slug="hour", name="Hour", price=1, minimum_quantity="0.25")
    assert read_quantity(hourly, Decimal("0.25")) == Decimal("0.25")


def test_a_call_without_counted_parameter_is_one(call: Feature) -> None:
    assert quantity_of(call, {"tokens": [1, 2, 3]}) == 1


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_list_counts_its_items(by_list: Feature, count: int) -> None:
    assert quantity_of(by_list, {"tokens": ["0x"] * count}) == count


@pytest.mark.parametrize("count", [0, 101])
def test_a_list_too_short_or_too_long_is_refused(by_list: Feature, count: int) -> None:
    with pytest.raises(InvalidQuantity, match=r"below 1|above 100"):
        quantity_of(by_list, {"tokens": ["0x"] * count})


@pytest.mark.parametrize("value", ["abc", 3, {"a": 1}, None])
def test_what_is_no_list_is_not_counted_as_one(by_list: Feature, value: object) -> None:
    with pytest.raises(InvalidQuantity, match="'tokens'"):
        quantity_of(by_list, {"tokens": value})


def test_a_missing_parameter_is_named(by_list: Feature) -> None:
    with pytest.raises(InvalidQuantity, match="parameter 'tokens' is missing"):
        quantity_of(by_list, {"owner": "0x"})


@pytest.mark.parametrize("value", [7, "7", Decimal("7.0")])
def test_an_integer_counts_itself_as_json_or_in_a_query(
    by_integer: Feature, value: object
) -> None:
    quantity = quantity_of(by_integer, {"tokens": value})
    assert quantity == 7
    assert type(quantity) is int


def test_a_counted_integer_must_be_whole(by_integer: Feature) -> None:
    with pytest.raises(InvalidQuantity, match="'tokens' must be a whole number"):
        quantity_of(by_integer, {"tokens": Decimal("2.5")})
