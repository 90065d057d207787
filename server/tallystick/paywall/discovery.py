"""How a priced route is called, told from the catalog."""

from typing import Any

from tallystick.catalog.argument_schema import argument_schema
from tallystick.catalog.examples import example_arguments
from tallystick.paywall.facts import Facts
from tallystick.x402.bazaar import declare_bazaar


def discovery(facts: Facts) -> dict[str, Any]:
    """The extension bazaar for the route that was called."""
    feature = facts.feature
    arguments = {
        name: argument_schema(feature, name, one)
        for name, one in feature.parameters.items()
    }
    required = [name for name, one in feature.parameters.items() if one.required]
    example = example_arguments(feature)
    return declare_bazaar(facts.method, arguments, required, example)
