"""How long the disk takes to keep a page."""

import os
import statistics
import time
from pathlib import Path

_PAGE = bytes(4096)


def fsync_ms(folder: Path, *, seconds: float) -> float:
    """The median time to append a page to a file in the folder and sync it."""
    took: list[float] = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        end = time.perf_counter() + seconds
        began = time.perf_counter()
        while not took or began < end:
            file.write(_PAGE)
            os.fsync(file)
            done = time.perf_counter()
            took.append(1000 * (done - began))
            began = done
    return statistics.median(took)
