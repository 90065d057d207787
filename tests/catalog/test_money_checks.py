from collections.abc import Callable

import pytest

from tallystick.catalog import pricing
from tallystick.catalog.errors import InvalidCatalog
from tallystick.catalog.models import Catalog
from tallystick.kernel.money import AMOUNT_LIMIT

Shop = Callable[..., Catalog]
PACK = """
[[pack]]
id = "one"
price_usd = "{price}"
bonus = "{bonus}"
"""


def places(shop: Shop, **numbers: object) -> list[str]:
    """The keys complained about; none for a catalog that is accepted."""
    try:
        shop(**numbers)
    except InvalidCatalog as refused:
        return [problem.where for problem in refused.problems]
    return []


def test_bounds_include_themselves(shop: Shop) -> None:
    one = {"minimum_usd": 7, "auto_topup_usd": 7, "maximum_usd": 7}
    assert shop(**one, extra=PACK.format(price=7, bonus=0)).packs


@pytest.mark.parametrize("automatic", ["6.999999", "7.000001"])
def test_the_automatic_topup_stays_within_the_bounds(
    shop: Shop, automatic: str
) -> None:
    numbers = {"minimum_usd": 7, "maximum_usd": 7, "auto_topup_usd": automatic}
    assert places(shop, **numbers) == ["topup.auto_topup_usd"]


@pytest.mark.parametrize("price", ["6.999999", "7.000001"])
def test_packs_stay_within_the_bounds(shop: Shop, price: str) -> None:
    one = {"minimum_usd": 7, "auto_topup_usd": 7, "maximum_usd": 7}
    extra = PACK.format(price=price, bonus=0)
    assert places(shop, **one, extra=extra) == ["pack.one.price_usd"]


def test_crossed_bounds_are_one_problem_and_not_one_for_each_pack(shop: Shop) -> None:
    extra = PACK.format(price=7, bonus=0)
    crossed = {"minimum_usd": 9, "maximum_usd": 8}
    assert places(shop, **crossed, extra=extra) == ["topup.minimum_usd"]


def test_the_smallest_call_may_cost_the_largest_topup(shop: Shop) -> None:
    largest = {"minimum_quantity": 2, "maximum_usd": 1}
    assert places(shop, price=5, **largest) == []
    assert places(shop, price="5.000001", **largest) == ["feature.audit.price"]


# 2 ** 62 millionths are 4611686018427.387904, twice 2305843009213.693952.
@pytest.mark.parametrize(
    ("numbers", "refused"),
    [
        ({"price": 2, "maximum_quantity": "2305843009213.693951"}, False),
        ({"price": 2, "maximum_quantity": "2305843009213.693952"}, True),
        ({"price": "1.000001", "maximum_quantity": "4611686018427.387903"}, True),
        ({"price_usd": 2, "price": 1, "maximum_quantity": "2305843009213.6939"}, False),
        ({"price_usd": 2, "price": 1, "maximum_quantity": "2305843009213.694"}, True),
    ],
)
def test_no_call_reaches_the_largest_amount(
    shop: Shop, numbers: dict[str, object], *, refused: bool
) -> None:
    expected = ["feature.audit.maximum_quantity"] if refused else []
    assert places(shop, **numbers) == expected
    if not refused:
        catalog = shop(**numbers)
        feature = catalog.feature("audit")
        most = pricing.price(feature, feature.maximum_quantity)
        assert pricing.usdc_for_credits(catalog, most) < AMOUNT_LIMIT


@pytest.mark.parametrize(
    ("maximum", "refused"),
    [("2305843009213.693951", False), ("2305843009213.693952", True)],
)
def test_no_topup_reaches_the_largest_amount(
    shop: Shop, maximum: str, *, refused: bool
) -> None:
    expected = ["topup.maximum_usd"] if refused else []
    assert places(shop, price_usd="0.5", maximum_usd=maximum) == expected


def test_a_pack_at_the_largest_amount_is_one_problem(shop: Shop) -> None:
    extra = PACK.format(price="2305843009213.693952", bonus=0)
    where = places(shop, price_usd="0.5", maximum_usd="4e12", extra=extra)
    assert where == ["topup.maximum_usd", "pack.one.price_usd"]


@pytest.mark.parametrize(
    ("bonus", "refused"),
    [("4611686018425.387903", False), ("4611686018425.387904", True)],
)
def test_no_pack_reaches_the_largest_amount_by_its_bonus(
    shop: Shop, bonus: str, *, refused: bool
) -> None:
    # The price alone buys two credits.
    extra = PACK.format(price=1, bonus=bonus)
    expected = ["pack.one.bonus"] if refused else []
    assert places(shop, price_usd="0.5", extra=extra) == expected


def test_what_is_sold_is_at_least_a_millionth_of_a_credit(shop: Shop) -> None:
    dear = {"price": 0, "maximum_usd": 10}
    assert places(shop, **dear, price_usd=1_000_000, minimum_usd=1) == []
    assert places(shop, **dear, price_usd="1000000.000001", minimum_usd=1) == [
        "topup.minimum_usd"
    ]
    extra = PACK.format(price=1, bonus=5)
    assert "pack.one.price_usd" in places(shop, **dear, price_usd="2e6", extra=extra)
