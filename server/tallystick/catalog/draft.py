"""A catalog while it is being checked, and what the checks find.

The checks take the parts that are well formed, so that a file with a typo in one
feature is still told everything about the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tallystick.catalog.lines import Path
from tallystick.catalog.models import Credit, Feature, Pack, TopUp


@dataclass(frozen=True, slots=True)
class Draft:
    """The well-formed parts of a catalog, the arrays by their position in the file.

    ``slugs`` and ``ids`` are those of all features and packs, well formed or not.
    """

    credit: Credit | None
    topup: TopUp | None
    features: Mapping[int, Feature]
    packs: Mapping[int, Pack]
    slugs: Mapping[int, str]
    ids: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem whose line is not known yet."""

    path: Path
    reason: str
    remedy: str
