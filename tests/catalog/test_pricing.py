from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.catalog import pricing
from tallystick.catalog.errors import (
    InvalidQuantity,
    TopUpOutOfBounds,
    UnknownFeature,
    UnknownPack,
)
from tallystick.catalog.models import Catalog, Credit, Feature, Pack
from tallystick.kernel.money import InvalidAmount, MicroCredits, UsdcAtomic

MICRO = 10**6
Shop = Callable[..., Catalog]
Selling = Callable[[object], Catalog]
# Up to a hundred million credits, and two million dollars; the price of a credit from
# a millionth of a dollar to ten thousand. Products stay below the largest amount.
CREDITS = st.integers(0, 10**14).map(MicroCredits)
USDC = st.integers(0, 2 * 10**12).map(UsdcAtomic)
PRICES = st.integers(1, 10**10).map(lambda atomic: Decimal(atomic).scaleb(-6))


def feature(price: object = "0.5", **keys: object) -> Feature:
    return Feature(slug="audit", name="Audit", price=price, **keys)


@pytest.fixture(scope="module")
def selling(shop: Shop) -> Selling:
    """A catalog with that price of a credit; unchecked, so that any is possible."""
    sample = shop()
    return lambda price: sample.model_copy(update={"credit": Credit(price_usd=price)})


@given(
    price=st.integers(0, 10**12),
    quantity=st.integers(1, 10**12),
)
@example(price=1, quantity=1)
def test_a_price_is_the_least_amount_not_below_the_exact_product(
    price: int, quantity: int
) -> None:
    units = Decimal(quantity).scaleb(-6)
    sold = feature(Decimal(price).scaleb(-6), minimum_quantity="0.000001")
    charged = pricing.price(sold, units)
    exact = Fraction(price * quantity, MICRO)
    assert exact <= charged < exact + 1


@given(st.integers(0, 10**12), st.integers(1, 10**6))
def test_whole_units_are_never_rounded(price: int, quantity: int) -> None:
    sold = feature(Decimal(price).scaleb(-6))
    assert pricing.price(sold, quantity) == price * quantity


@given(st.integers(0, 10**9), st.integers(1, 10**12), st.integers(1, 10**12))
def test_more_usage_never_costs_less(price: int, one: int, other: int) -> None:
    sold = feature(Decimal(price).scaleb(-6), minimum_quantity="0.000001")
    less, more = sorted((one, other))
    assert pricing.price(sold, Decimal(less).scaleb(-6)) <= pricing.price(
        sold, Decimal(more).scaleb(-6)
    )


def test_the_seventh_decimal_rounds_up() -> None:
    sold = feature("0.000001", minimum_quantity="0.000001")
    assert pricing.price(sold, Decimal("0.5")) == 1
    assert pricing.price(sold, Decimal("1.000001")) == 2


def test_a_free_feature_costs_nothing_in_any_quantity() -> None:
    assert pricing.price(feature(0), 1_000_000) == 0


@pytest.mark.parametrize("quantity", [0, -1, 0.5, Decimal("0.5"), 1_000_001])
def test_a_price_is_never_made_for_an_impossible_quantity(quantity: object) -> None:
    with pytest.raises(InvalidQuantity):
        pricing.price(feature(), quantity)


@given(PRICES, CREDITS)
def test_the_payment_asked_for_buys_the_credits_needed_and_one_less_would_not(
    selling: Selling, price: Decimal, wanted: MicroCredits
) -> None:
    catalog = selling(price)
    cost = pricing.usdc_for_credits(catalog, wanted)
    assert pricing.credits_for_usdc(catalog, cost) >= wanted
    if cost:
        one_less = UsdcAtomic(cost - 1)
        assert pricing.credits_for_usdc(catalog, one_less) < wanted


@given(PRICES, USDC)
def test_a_purchase_loses_less_than_a_micro_credit_and_never_gains(
    selling: Selling, price: Decimal, paid: UsdcAtomic
) -> None:
    exact = Fraction(paid, MICRO) / Fraction(price) * MICRO
    bought = pricing.credits_for_usdc(selling(price), paid)
    assert exact - 1 < bought <= exact


@given(st.sampled_from([1, 10, 100_000, 250_000, MICRO]), USDC)
def test_nothing_is_lost_when_the_price_of_a_credit_divides_a_dollar(
    selling: Selling, price: Decimal, paid: UsdcAtomic
) -> None:
    catalog = selling(Decimal(price).scaleb(-6))
    bought = pricing.credits_for_usdc(catalog, paid)
    assert bought * price == paid * MICRO
    assert pricing.usdc_for_credits(catalog, bought) == paid


@given(PRICES, USDC, USDC)
def test_cutting_a_purchase_into_pieces_never_gains(
    selling: Selling, price: int, one: int, other: int
) -> None:
    catalog = selling(price)
    together = pricing.credits_for_usdc(catalog, UsdcAtomic(one + other))
    apart = [pricing.credits_for_usdc(catalog, part) for part in (one, other)]
    assert sum(apart) <= together


@pytest.mark.parametrize("amount", [-1, 1 << 62, 1 << 80])
def test_amounts_beyond_the_books_are_refused(shop: Shop, amount: int) -> None:
    with pytest.raises(InvalidAmount):
        pricing.credits_for_usdc(shop(), UsdcAtomic(amount))
    with pytest.raises(InvalidAmount):
        pricing.usdc_for_credits(shop(), MicroCredits(amount))


def test_a_payment_that_would_buy_more_than_the_books_hold_is_refused(
    selling: Selling,
) -> None:
    with pytest.raises(InvalidAmount):
        pricing.credits_for_usdc(selling("0.000001"), UsdcAtomic(1 << 60))
    with pytest.raises(InvalidAmount):
        pricing.usdc_for_credits(selling("1000"), MicroCredits(1 << 60))


@pytest.mark.parametrize(
    ("shortfall", "automatic", "smallest"),
    [
        (0, 1_000_000, 50_000),
        (1, 1_000_000, 50_000),
        (1_000_000, 1_000_000, 100_000),
        (10_000_000, 1_000_000, 1_000_000),
        (10_000_001, 1_000_001, 1_000_001),
        (50_000_000, 5_000_000, 5_000_000),
        (10_000_000_000, 1_000_000_000, 1_000_000_000),
    ],
)
def test_a_topup_is_a_dollar_or_what_the_call_needs(
    shop: Shop, shortfall: MicroCredits, automatic: int, smallest: int
) -> None:
    catalog = shop()
    assert pricing.topup_for_shortfall(catalog, shortfall) == automatic
    assert pricing.smallest_topup(catalog, shortfall) == smallest


@given(PRICES, CREDITS)
def test_a_topup_always_covers_the_shortfall(
    selling: Selling, price: Decimal, shortfall: MicroCredits
) -> None:
    catalog = selling(price)
    try:
        topup = pricing.topup_for_shortfall(catalog, shortfall)
    except TopUpOutOfBounds:
        assert pricing.usdc_for_credits(catalog, shortfall) > 1000 * MICRO
    else:
        assert pricing.credits_for_usdc(catalog, topup) >= shortfall


def test_a_shortfall_that_no_single_topup_covers_is_told_with_the_bounds(
    shop: Shop,
) -> None:
    with pytest.raises(TopUpOutOfBounds, match=r"\$1000.000001 .* \$0.05 and \$1000"):
        pricing.topup_for_shortfall(shop(), MicroCredits(10_000_000_001))


@pytest.mark.parametrize(
    ("usd", "atomic"),
    [("0.05", 50_000), (5, 5_000_000), (Decimal("5.00"), 5_000_000), (1000, 10**9)],
)
def test_a_chosen_amount_within_the_bounds_is_taken_exactly(
    shop: Shop, usd: Decimal | int | str, atomic: int
) -> None:
    assert pricing.topup_for_usd(shop(), usd) == atomic


@pytest.mark.parametrize("usd", ["0.049999", 0, -5, "1000.000001"])
def test_a_chosen_amount_outside_the_bounds_is_refused(
    shop: Shop, usd: Decimal | int | str
) -> None:
    with pytest.raises(TopUpOutOfBounds):
        pricing.topup_for_usd(shop(), usd)


@pytest.mark.parametrize("usd", ["0.0500001", "five", "NaN", "1_0", ""])
def test_a_chosen_amount_that_is_no_exact_number_is_refused(
    shop: Shop, usd: Decimal | int | str
) -> None:
    with pytest.raises(InvalidAmount):
        pricing.topup_for_usd(shop(), usd)


PROXY = """
[[pack]]
id = "basic"
price_usd = "9.99"
bonus = "0.04"
[[pack]]
id = "premium"
price_usd = "24.99"
bonus = "0.04"
[[pack]]
id = "pro"
price_usd = "59.99"
bonus = "10.04"
"""


@pytest.mark.parametrize(
    ("pack_id", "content", "savings"),
    [
        # 40 credits at the rate of premium (0.2499) are $9.996: six tenths of a cent.
        ("basic", 40, None),
        # The dearest a credit; its seller's own page claims a saving of $15.
        ("premium", 100, None),
        # 250 credits at 0.2499 would be $62.475.
        ("pro", 250, 2_480_000),
    ],
)
def test_savings_are_true_against_the_dearest_pack(
    shop: Shop, pack_id: str, content: int, savings: int | None
) -> None:
    catalog = shop(price_usd="0.25", extra=PROXY)
    pack = catalog.pack(pack_id)
    assert pricing.pack_credits(catalog, pack) == content * MICRO
    assert pricing.savings(catalog, pack) == savings


@given(
    st.lists(
        st.tuples(st.integers(5, 100_000), st.integers(0, 10**6)),
        min_size=1,
        max_size=5,
    )
)
def test_no_pack_claims_more_than_it_saves(
    shop: Shop, packs: list[tuple[int, int]]
) -> None:
    tables = "".join(
        f'[[pack]]\nid = "p{at}"\nprice_usd = "{Decimal(cents).scaleb(-2)}"\n'
        f"bonus = {bonus}\n"
        for at, (cents, bonus) in enumerate(packs)
    )
    catalog = shop(extra=tables)

    def rate(pack: Pack) -> Fraction:
        content = pricing.pack_credits(catalog, pack)
        return Fraction(pricing.pack_price(pack), content)

    dearest = max(map(rate, catalog.packs))
    for pack in catalog.packs:
        content = pricing.pack_credits(catalog, pack)
        true = dearest * content - pricing.pack_price(pack)
        claimed = pricing.savings(catalog, pack) or 0
        assert true - 10_000 < claimed <= true


@pytest.mark.parametrize(("bonus", "saved"), [("0.099999", None), ("0.1", 10_000)])
def test_a_saving_below_a_cent_is_none(shop: Shop, bonus: str, saved: int) -> None:
    pair = "[[pack]]\nid = '{}'\nprice_usd = 1\nbonus = '{}'\n"
    catalog = shop(extra=pair.format("plain", 0) + pair.format("better", bonus))
    assert pricing.savings(catalog, catalog.pack("better")) == saved


def test_the_bonus_is_told_apart_from_what_was_paid_for(shop: Shop) -> None:
    catalog = shop(price_usd="0.25", extra=PROXY)
    pro = catalog.pack("pro")
    paid = pricing.credits_for_usdc(catalog, pricing.pack_price(pro))
    assert paid == 239_960_000
    assert pricing.pack_bonus(pro) == 10_040_000


def test_unknown_names_are_not_found_and_the_known_ones_are_told(shop: Shop) -> None:
    catalog = shop(extra=PROXY)
    with pytest.raises(UnknownFeature) as feature_error:
        catalog.feature("nothing")
    assert feature_error.value.status == 404
    assert feature_error.value.members == {"features": ["audit"]}
    with pytest.raises(UnknownPack) as pack_error:
        catalog.pack("nothing")
    assert pack_error.value.status == 404
    assert pack_error.value.members == {"packs": ["basic", "premium", "pro"]}
