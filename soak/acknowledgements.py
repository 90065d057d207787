"""What clients were told, in a file that is all the judge may believe.

One JSON line for each event, in the order in which it happened:

    {"customer": "cus_…", "credits": 1000}         what he began with
    {"asked": "<key>", "customer": "cus_…"}        before a deduction is first sent
    {"told": "<key>", "charge": "chg_…", "deducted": 1}
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self


class Acknowledgements:
    """Appends; a line is on its way to the disk before anybody relies on it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def note(self, **event: Any) -> None:
        """One event."""
        self._file.write(json.dumps(event) + "\n")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every event, in order."""
    with path.open() as file:
        for line in file:
            yield json.loads(line)
