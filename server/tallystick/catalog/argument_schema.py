"""The arguments of a feature as JSON Schema, for whoever is to call it."""

from typing import Any

from tallystick.catalog.models import LARGEST, Feature, Parameter
from tallystick.catalog.patterns import LONGEST_TEXT, anchored


def argument_schema(feature: Feature, name: str, one: Parameter) -> dict[str, Any]:
    """What the parameter of that name takes."""
    schema: dict[str, Any]
    low, high = "minimum", "maximum"
    if one.type == "list":
        items = _text_schema(one.items, one.pattern)
        schema = {"type": "array", "items": items, "uniqueItems": one.unique}
        low, high = "minItems", "maxItems"
    elif one.type == "integer":
        schema = {
            "type": "integer",
            "minimum": -LARGEST if one.minimum is None else one.minimum,
            "maximum": LARGEST if one.maximum is None else one.maximum,
        }
    else:
        schema = _text_schema(one.type, one.pattern)
    if name == feature.quantity_from:
        # Whole units only: a list has no half an item, an integer no fraction.
        least = -int(-feature.minimum_quantity // 1)
        most = int(feature.maximum_quantity)
        schema[low] = max(least, schema.get(low, least))
        schema[high] = min(most, schema.get(high, most))
    return schema


def _text_schema(kind: str, pattern: str | None) -> dict[str, Any]:
    if kind == "address":
        return {"type": "string", "pattern": "^0x[0-9a-fA-F]{40}$"}
    if pattern is None:
        return {"type": "string"}
    return {"type": "string", "pattern": anchored(pattern), "maxLength": LONGEST_TEXT}
