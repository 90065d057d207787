"""What a benchmark found: a value beside its baseline, and whether that suffices."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """``value`` and ``baseline`` are medians over the rounds, in ``unit``.

    Machines differ and are noisy, so only their ratio is judged. ``target`` is the
    smallest ratio that is good enough; None for what is only told.
    """

    id: str
    words: str
    unit: str
    values: Sequence[float]
    baselines: Sequence[float]
    target: float | None = None

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
        return self.target is None or self.ratio >= self.target

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
            "baseline": round(self.baseline, 2),
            "measured": round(self.value, 2),
            "unit": self.unit,
            "rounds": len(self.values),
            "spread": round(self.spread, 3),
            "target": self.target,
            "ok": self.ok,
        }
