"""How long and how often a benchmark measures, and on how much."""

import sys
from dataclasses import dataclass

SQLITE, POSTGRES = "sqlite", "postgres"
NAMES = {SQLITE: "SQLite", POSTGRES: "PostgreSQL"}


@dataclass(frozen=True, slots=True)
class Plan:
    """``seconds`` of each side in each round, by turns; None is what a benchmark likes."""

    rounds: int = 5
    seconds: float = 3.0
    customers: int | None = None
    entries: int | None = None
    databases: tuple[str, ...] = (POSTGRES, SQLITE)

    def tell(self, words: str) -> None:
        """Progress, on stderr."""
        print(f"… {words}", file=sys.stderr, flush=True)
