from collections.abc import Callable

import pytest

from tallystick.catalog.load import load_catalog, parse_catalog
from tallystick.catalog.models import Catalog

_SHOP = """\
[catalog]
slug = "shop"
name = "Shop"

[credit]
price_usd = "{price_usd}"

[topup]
auto_topup_usd = "{auto_topup_usd}"
minimum_usd = "{minimum_usd}"
maximum_usd = "{maximum_usd}"

[[feature]]
slug = "audit"
name = "Audit"
price = "{price}"
unit = "token"
quantity_from = "tokens"
minimum_quantity = "{minimum_quantity}"
maximum_quantity = "{maximum_quantity}"

[feature.parameters]
tokens = {{ type = "{counted}" }}
"""
_NUMBERS = {
    "price_usd": "0.10",
    "auto_topup_usd": "1",
    "minimum_usd": "0.05",
    "maximum_usd": "1000",
    "price": "0.5",
    "minimum_quantity": "1",
    "maximum_quantity": "100",
    "counted": "list",
}


@pytest.fixture(scope="session")
def shop() -> Callable[..., Catalog]:
    """Makes a catalog of one feature, ``audit``, with the numbers given."""

    def make(*, extra: str = "", **numbers: object) -> Catalog:
        return parse_catalog(_SHOP.format(**(_NUMBERS | numbers)) + extra)

    return make


@pytest.fixture(scope="session")
def x402_credits() -> Catalog:
    return load_catalog("x402_credits")
