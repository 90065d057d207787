"""Arguments that a feature would take, for whoever wants to see its price."""

from typing import Any

from tallystick.catalog.models import Feature, Parameter
from tallystick.catalog.patterns import matches

_ADDRESS = "0x" + "11" * 20
_TEXTS = ("example", "EXAMPLE", "a", "A", "1", "AA", "A1", "AA1", "example.com")


def example_arguments(feature: Feature) -> dict[str, Any] | None:
    """One value for each parameter that is required; None where none can be guessed.

    A pattern may allow anything, so of strings only a few common ones are tried.
    """
    found = {
        name: _example(feature, name, one)
        for name, one in feature.parameters.items()
        if one.required or name == feature.quantity_from
    }
    return None if None in found.values() else found


def _example(feature: Feature, name: str, one: Parameter) -> Any:
    least = -int(-feature.minimum_quantity // 1) if name == feature.quantity_from else 0
    if one.type == "integer":
        low = max(least, one.minimum if one.minimum is not None else least)
        return low if one.maximum is None else min(low, one.maximum)
    if one.type != "list":
        return _text(one.type, one.pattern)
    item = _text(one.items, one.pattern)
    if item is None or (one.unique and least > 1):
        return None
    return [item] * max(least, 1)


def _text(kind: str, pattern: str | None) -> str | None:
    if kind == "address":
        return _ADDRESS
    fitting = (one for one in _TEXTS if pattern is None or matches(pattern, one))
    return next(fitting, None)
