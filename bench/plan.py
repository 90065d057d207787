"""How long and how often a benchmark measures, and on how much."""

import sys
from dataclasses import dataclass

SQLITE, POSTGRES = "sqlite", "postgres"
_NAMES = {SQLITE: "SQLite", POSTGRES: "PostgreSQL"}


@dataclass(frozen=True, slots=True)
class Plan:
    """``seconds`` of each side in each round, by turns; None is what a benchmark likes.

    ``settings`` are PostgreSQL's, each ``name=value``; it has its own for the rest.
    """

    rounds: int = 5
    seconds: float = 3.0
    customers: int | None = None
    entries: int | None = None
    databases: tuple[str, ...] = (POSTGRES, SQLITE)
    settings: tuple[str, ...] = ()

    def name(self, database: str) -> str:
        """Of a database, with the settings that it was given."""
        if database == SQLITE or not self.settings:
            return _NAMES[database]
        return f"{_NAMES[database]} ({', '.join(self.settings)})"

    def tell(self, words: str) -> None:
        """Progress, on stderr."""
        print(f"… {words}", file=sys.stderr, flush=True)
