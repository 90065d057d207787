"""The price list and the calculator as plain values for JSON.

Numbers are exact Decimals, and ``kernel.json.dumps`` prints them digit by digit; an
encoder that makes floats or strings of them must not be used on these.
"""

from decimal import Decimal
from typing import Any

from tallystick.catalog import pricing
from tallystick.catalog.models import Catalog, Feature, Pack, Parameter
from tallystick.catalog.quantity import read_quantity
from tallystick.kernel.money import to_decimal


def catalog_document(catalog: Catalog) -> dict[str, Any]:
    """The answer of ``GET /api/catalog``; handlers stay the seller's business."""
    about, credit = catalog.about, catalog.credit
    return {
        "slug": about.slug,
        "name": about.name,
        "description": about.description,
        "currency": about.currency,
        "version": catalog.version,
        "credit": credit.model_dump(),
        "topup": catalog.topup.model_dump(),
        "features": [_feature(catalog, feature) for feature in catalog.features],
        "packs": [_pack(catalog, pack) for pack in catalog.packs],
    }


def quote(catalog: Catalog, feature: Feature, quantity: object = 1) -> dict[str, Any]:
    """The answer of ``POST /api/catalog/quote``: what a call would cost.

    ``usd`` is the least USDC that buys the credits. Raises ``InvalidQuantity``.
    """
    units = read_quantity(feature, quantity)
    cost = pricing.price(feature, units)
    return {
        "feature": feature.slug,
        "quantity": units,
        "unit": feature.unit_name,
        "credits": to_decimal(cost),
        "usd": to_decimal(pricing.usdc_for_credits(catalog, cost)),
        "catalog_version": catalog.version,
    }


def _feature(catalog: Catalog, feature: Feature) -> dict[str, Any]:
    return {
        "slug": feature.slug,
        "name": feature.name,
        "description": feature.description,
        "credits": feature.price,
        "usd": _unit_price_usd(catalog, feature),
        "unit": feature.unit_name,
        "quantity_from": feature.quantity_from,
        "minimum_quantity": feature.minimum_quantity,
        "maximum_quantity": feature.maximum_quantity,
        "success": feature.success,
        "methods": list(feature.methods),
        "parameters": [
            _parameter(name, parameter)
            for name, parameter in feature.parameters.items()
        ],
    }


def _parameter(name: str, parameter: Parameter) -> dict[str, Any]:
    """What does not belong to its type is left out."""
    told = parameter.model_dump(exclude_none=True)
    if parameter.type != "list":
        told = {key: told[key] for key in told if key not in {"items", "unique"}}
    return {"name": name, **told}


def _unit_price_usd(catalog: Catalog, feature: Feature) -> Decimal:
    """Exact, with up to twelve decimals: rounding belongs to a sum, not to a rate."""
    credits_micro = pricing.unit_price(feature)
    return to_decimal(credits_micro * pricing.credit_price(catalog), scale=12)


def _pack(catalog: Catalog, pack: Pack) -> dict[str, Any]:
    saved = pricing.savings(catalog, pack)
    return {
        "id": pack.id,
        "price_usd": pack.price_usd,
        "credits": to_decimal(pricing.pack_credits(catalog, pack)),
        "bonus": pack.bonus,
        "badge": pack.badge,
        "savings_usd": None if saved is None else to_decimal(saved),
    }
