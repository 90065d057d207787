"""What a benchmark found: a value beside its baseline, and whether that suffices."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """``value`` and ``baseline`` are medians over the rounds, in ``unit``.

    Machines differ and are noisy, so only their ratio is judged. ``target`` is the
    smallest ratio that is good enough, with ``at_most`` the largest; None for what is
    only told. What is judged by itself has the baseline 1. ``more`` is told beside.
    """

    id: str
    words: str
    unit: str
    values: Sequence[float]
    baselines: Sequence[float]
    target: float | None = None
    at_most: bool = False
    more: Mapping[str, float] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return statistics.median(self.values)

    @property
    def baseline(self) -> float:
        return statistics.median(self.baselines)

    @property
    def ratio(self) -> float:
        return self.value / self.baseline

    @property
    def ok(self) -> bool:
        if self.target is None:
            return True
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    @property
    def spread(self) -> float:
        """The distance from the slowest to the fastest round, as a part of the value."""
        return (max(self.values) - min(self.values)) / self.value

    def document(self) -> dict[str, Any]:
        """As ``--json`` prints it; ``value`` is the ratio that ``target`` is for."""
        return {
            "id": self.id,
            "what": self.words,
            "value": round(self.ratio, 4),
            "baseline": round(self.baseline, 4),
            "measured": round(self.value, 4),
            "unit": self.unit,
            "rounds": len(self.values),
            "spread": round(self.spread, 3),
            "target": self.target,
            "at_most": self.at_most,
            "ok": self.ok,
        } | {name: round(one, 4) for name, one in self.more.items()}
