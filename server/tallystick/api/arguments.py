"""The arguments of a call, as the catalog declares them.

They are checked before a price is told and before anything is paid, so a call that
cannot succeed costs nothing.
"""

import re
from typing import Any

from tallystick.api.errors import InvalidRequest
from tallystick.catalog.models import LARGEST, Feature, Parameter
from tallystick.catalog.patterns import LONGEST_TEXT, matches
from tallystick.x402.keccak import read_address

_INTEGER = re.compile(r"-?[0-9]{1,18}")


def read_arguments(feature: Feature, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments for the handler; raises ``InvalidRequest`` naming the parameter."""
    unknown = given.keys() - feature.parameters.keys()
    if unknown:
        name = min(unknown)
        raise InvalidRequest(f"{feature.slug} has no parameter {name!r}", field=name)
    for name, parameter in feature.parameters.items():
        if parameter.required and given.get(name) is None:
            raise _refusal(name, "is missing")
    return {
        name: _read(name, feature.parameters[name], value)
        for name, value in given.items()
    }


def check_told(feature: Feature, given: dict[str, Any]) -> None:
    """Refuse what another server was told and no call may say.

    That server may have parameters in its path, in a form or of its own, so what is
    missing or undeclared is its own matter. Raises ``InvalidRequest``.
    """
    for name, parameter in feature.parameters.items():
        if name in given:
            _read(name, parameter, given[name])


def _read(name: str, parameter: Parameter, value: Any) -> Any:
    match parameter.type:
        case "integer":
            return _integer(name, parameter, value)
        case "list":
            return _list(name, parameter, value)
        case _:
            _text(name, parameter.type, parameter.pattern, value)
            return value


def _integer(name: str, parameter: Parameter, value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        # Digits of other scripts, and thousands of digits, are no integer here.
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refusal(name, "is no integer")
    low = -LARGEST if parameter.minimum is None else parameter.minimum
    high = LARGEST if parameter.maximum is None else parameter.maximum
    if value < low:
        raise _refusal(name, f"is below {low}")
    if value > high:
        raise _refusal(name, f"is above {high}")
    return value


def _list(name: str, parameter: Parameter, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _refusal(name, "is no list")
    known = set()
    for position, item in enumerate(value):
        one = f"{name}[{position}]"
        _text(one, parameter.items, parameter.pattern, item)
        # An address has several ways of writing, and is one all the same.
        known.add(item.lower() if parameter.items == "address" else item)
        if parameter.unique and len(known) <= position:
            raise _refusal(one, "is named twice")
    return value


def _text(name: str, kind: str, pattern: str | None, value: Any) -> None:
    if kind == "address":
        try:
            read_address(value)
        except ValueError as error:
            raise _refusal(name, str(error)) from None
    elif not isinstance(value, str):
        raise _refusal(name, "is no string")
    elif pattern is not None and not matches(pattern, value):
        problem = f"does not match {pattern} with at most {LONGEST_TEXT} characters"
        raise _refusal(name, problem)


def _refusal(name: str, problem: str) -> InvalidRequest:
    return InvalidRequest(f"the parameter {name!r} {problem}", field=name)
