"""What a campaign was asked to do."""

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How long, from which seed, on which database, and whether to spoil it.

    A campaign that finds nothing wrong where something was spoilt would prove nothing.
    """

    seconds: float
    seed: int
    database: str = "sqlite"
    sabotage: bool = False

    def tell(self, words: str) -> None:
        """Progress, on stderr, because the verdict may be for a machine."""
        print(f"… {words}", file=sys.stderr, flush=True)
