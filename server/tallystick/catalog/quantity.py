"""How many units a call is about: told outright, or read from its parameters."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tallystick.catalog.errors import InvalidQuantity
from tallystick.catalog.models import SCALE, Feature
from tallystick.kernel.money import InvalidAmount, parse_decimal, to_decimal

_ONE: int = 10**SCALE


def quantity_of(feature: Feature, parameters: Mapping[str, Any]) -> int:
    """Units that a call with these parameters is about; 1 if nothing tells.

    A list counts its items, an integer (or its digits, as in a query string) counts
    itself. Raises ``InvalidQuantity``, which names the parameter.
    """
    name = feature.quantity_from
    if name is None:
        return quantity_micro(feature, 1) // _ONE
    if parameters.get(name) is None:
        raise _refusal(feature, f"the parameter {name!r} is missing")
    value = parameters[name]
    if feature.parameters[name].type == "list":
        if not isinstance(value, list | tuple):
            raise _refusal(feature, f"the parameter {name!r} must be a list")
        value = len(value)
    units, rest = divmod(quantity_micro(feature, value), _ONE)
    if rest:
        raise _refusal(feature, f"the parameter {name!r} must be a whole number")
    return units


def read_quantity(feature: Feature, value: object) -> Decimal:
    """A quantity that the caller told outright, checked; raises ``InvalidQuantity``."""
    return to_decimal(quantity_micro(feature, value), SCALE)


def quantity_micro(feature: Feature, quantity: object) -> int:
    """Millionths of a unit, exact; raises ``InvalidQuantity``.

    Floats are refused: read JSON with ``kernel.json``, which makes Decimals.
    """
    if isinstance(quantity, bool) or not isinstance(quantity, int | str | Decimal):
        raise _refusal(feature, "it must be a number")
    try:
        units = parse_decimal(quantity, SCALE)
    except InvalidAmount as error:
        raise _refusal(feature, error.detail) from error
    if units < parse_decimal(feature.minimum_quantity, SCALE):
        raise _refusal(feature, f"{quantity} is below {feature.minimum_quantity}")
    if units > parse_decimal(feature.maximum_quantity, SCALE):
        raise _refusal(feature, f"{quantity} is above {feature.maximum_quantity}")
    return units


def _refusal(feature: Feature, reason: str) -> InvalidQuantity:
    known = {"feature": feature.slug, "unit": feature.unit_name}
    if feature.quantity_from is not None:
        known["parameter"] = feature.quantity_from
    return InvalidQuantity(f"the quantity of {feature.slug!r}: {reason}", **known)
