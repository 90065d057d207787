"""How long and how often a benchmark measures."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """``seconds`` of each side in each round, by turns; ``customers`` at the most."""

    rounds: int = 5
    seconds: float = 3.0
    customers: int = 10_000

    def tell(self, words: str) -> None:
        """Progress, on stderr."""
        print(f"… {words}", file=sys.stderr, flush=True)
