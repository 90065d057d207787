"""What must hold between the keys of a feature, and between the slugs and ids."""

from collections.abc import Iterator, Mapping

from tallystick.catalog.draft import Draft, Finding
from tallystick.catalog.lines import Path
from tallystick.catalog.models import Feature
from tallystick.catalog.parameter_checks import parameter_findings


def feature_findings(draft: Draft) -> Iterator[Finding]:
    """Duplicate names, and features that contradict themselves."""
    yield from _duplicates("feature", "slug", draft.slugs)
    yield from _duplicates("pack", "id", draft.ids)
    for at, feature in draft.features.items():
        yield from _counting(("feature", at, "quantity_from"), feature)
        yield from _bounds(("feature", at), feature)
        yield from parameter_findings(("feature", at, "parameters"), feature)


def _duplicates(table: str, key: str, names: Mapping[int, str]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for at, name in names.items():
        if first.setdefault(name, at) != at:
            reason = f"{name!r} is already the {key} of an earlier [[{table}]]"
            remedy = f"Give each [[{table}]] its own {key}."
            yield Finding((table, at, key), reason, remedy)


def _counting(path: Path, feature: Feature) -> Iterator[Finding]:
    name = feature.quantity_from
    if name is None:
        return
    if feature.unit is None:
        yield Finding(path, "what it counts has no name", 'Add unit, such as "token".')
    parameter = feature.parameters.get(name)
    if parameter is None:
        remedy = "Declare it in [feature.parameters]."
        yield Finding(path, f"{name!r} is no parameter", remedy)
        return
    if parameter.type not in {"list", "integer"}:
        remedy = "Count a list or an integer."
        reason = f"the parameter {name!r} is of type {parameter.type!r}"
        yield Finding(path, reason, remedy)
    if not parameter.required:
        reason = f"the parameter {name!r} may be left out, so the quantity may be too"
        yield Finding(path, reason, f"Set required = true for {name}.")


def _bounds(path: Path, feature: Feature) -> Iterator[Finding]:
    low, high = feature.minimum_quantity, feature.maximum_quantity
    if low > high:
        reason = f"{low} is above maximum_quantity, {high}"
        yield Finding((*path, "minimum_quantity"), reason, "Lower it.")
    elif feature.handler and not feature.quantity_from and not low <= 1 <= high:
        reason = f"a call of the handler counts as 1, which is not {low} to {high}"
        remedy = "Add quantity_from, or let the bounds include 1."
        yield Finding((*path, "handler"), reason, remedy)
