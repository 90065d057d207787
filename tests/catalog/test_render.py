from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.catalog import pricing
from tallystick.catalog.errors import InvalidQuantity
from tallystick.catalog.models import Catalog
from tallystick.catalog.render import catalog_document, quote
from tallystick.kernel import json

Shop = Callable[..., Catalog]
PACKS = """
[[pack]]
id = "small"
price_usd = 5
[[pack]]
id = "large"
price_usd = 20
bonus = "25.5"
badge = "Most popular"
"""


def test_the_price_list_is_exact_json(shop: Shop) -> None:
    catalog = shop(price_usd="0.1", price="0.000003", extra=PACKS)
    assert json.dumps(catalog_document(catalog)) == (
        b'{"slug":"shop","name":"Shop","description":"","currency":"USD",'
        b'"version":"' + catalog.version.encode() + b'",'
        b'"credit":{"name":"credit","plural":"credits","price_usd":0.1,'
        b'"low_balance":5},'
        b'"topup":{"auto_topup_usd":1,"minimum_usd":0.05,"maximum_usd":1000},'
        b'"features":[{"slug":"audit","name":"Audit","description":"",'
        b'"credits":0.000003,"usd":0.0000003,"unit":"token","quantity_from":"tokens",'
        b'"minimum_quantity":1,"maximum_quantity":100,"success":"answered",'
        b'"methods":["GET","POST"],"parameters":[{"name":"tokens","type":"list",'
        b'"required":true,"description":"","items":"string","unique":false}]}],'
        b'"packs":[{"id":"small","price_usd":5,"credits":50,"bonus":0,"badge":null,'
        b'"savings_usd":null},{"id":"large","price_usd":20,"credits":225.5,'
        b'"bonus":25.5,"badge":"Most popular","savings_usd":2.55}]}'
    )


def test_handlers_are_not_shown_to_customers(x402_credits: Catalog) -> None:
    assert x402_credits.feature("ai_analyst").handler
    assert b"tallystick." not in json.dumps(catalog_document(x402_credits))


def test_a_quote_names_price_and_version(x402_credits: Catalog) -> None:
    audit = x402_credits.feature("portfolio_audit")
    assert json.dumps(quote(x402_credits, audit, 10)) == (
        b'{"feature":"portfolio_audit","quantity":10,"unit":"token","credits":5,'
        b'"usd":0.5,"catalog_version":"' + x402_credits.version.encode() + b'"}'
    )


def test_a_quote_is_for_one_unit_when_no_quantity_is_told(
    x402_credits: Catalog,
) -> None:
    quoted = quote(x402_credits, x402_credits.feature("ai_analyst"))
    assert quoted["credits"] == 1
    assert quoted["quantity"] == 1
    assert quoted["unit"] == "call"


@pytest.mark.parametrize("quantity", [0, 101, "1.0000001", 1.0, True])
def test_nothing_impossible_is_quoted(x402_credits: Catalog, quantity: object) -> None:
    with pytest.raises(InvalidQuantity):
        quote(x402_credits, x402_credits.feature("portfolio_audit"), quantity)


@given(
    price=st.integers(0, 10**9).map(lambda atomic: Decimal(atomic).scaleb(-6)),
    rate=st.integers(1, 10**7).map(lambda atomic: Decimal(atomic).scaleb(-6)),
    quantity=st.integers(1, 10**8).map(lambda units: Decimal(units).scaleb(-6)),
)
def test_what_is_quoted_is_what_is_charged_and_its_usd_buys_it(
    shop: Shop, price: Decimal, rate: Decimal, quantity: Decimal
) -> None:
    catalog = shop(
        price=price,
        price_usd=rate,
        minimum_quantity="0.000001",
        minimum_usd="0.00001",
        auto_topup_usd="10",
        maximum_usd="1000000",
    )
    feature = catalog.feature("audit")
    quoted = json.loads(json.dumps(quote(catalog, feature, quantity)))
    charged = pricing.price(feature, quantity)
    assert quoted["credits"] * 10**6 == charged
    paid = int(quoted["usd"] * 10**6)
    assert pricing.credits_for_usdc(catalog, paid) >= charged
