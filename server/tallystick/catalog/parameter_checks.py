"""What must hold between the keys of a feature's parameter."""

import keyword
from collections.abc import Iterator

from tallystick.catalog.draft import Finding
from tallystick.catalog.lines import Path
from tallystick.catalog.models import Feature, Parameter
from tallystick.catalog.patterns import PatternRefused, require_readable

_BELONGS_TO = {
    "items": ("list",),
    "unique": ("list",),
    "pattern": ("string", "list"),
    "minimum": ("integer",),
    "maximum": ("integer",),
}


def parameter_findings(path: Path, feature: Feature) -> Iterator[Finding]:
    """Names that no handler can take, and parameters that contradict themselves."""
    for name, parameter in feature.parameters.items():
        yield from _name((*path, name), name)
        yield from _kind((*path, name), parameter)
        yield from _pattern((*path, name, "pattern"), parameter)
        yield from _bounds((*path, name, "minimum"), parameter)


def _name(path: Path, name: str) -> Iterator[Finding]:
    if name == "context" or keyword.iskeyword(name) or not name.isidentifier():
        reason = f"a handler can have no argument of its own named {name!r}"
        remedy = 'Take a Python identifier that is no keyword and not "context".'
        yield Finding(path, reason, remedy)


def _kind(path: Path, parameter: Parameter) -> Iterator[Finding]:
    for key in sorted(parameter.model_fields_set & _BELONGS_TO.keys()):
        fitting = _BELONGS_TO[key]
        if parameter.type not in fitting:
            reason = f"the type {parameter.type!r} has no {key}"
            types = " or ".join(f'"{one}"' for one in fitting)
            remedy = f"Remove it, or set type = {types}."
            yield Finding((*path, key), reason, remedy)


def _pattern(path: Path, parameter: Parameter) -> Iterator[Finding]:
    if parameter.pattern is None:
        return
    if parameter.type == "list" and parameter.items == "address":
        yield Finding(path, "an address has its own form", "Remove one of the two.")
    try:
        require_readable(parameter.pattern)
    except PatternRefused as refusal:
        reason = f"{parameter.pattern!r} is no regular expression here: {refusal}"
        remedy = "Correct it; there is no look-around and there are no back-references."
        yield Finding(path, reason, remedy)


def _bounds(path: Path, parameter: Parameter) -> Iterator[Finding]:
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None and low > high:
        yield Finding(path, f"{low} is above maximum, {high}", "Lower it.")
