"""A failure in words: an assertion has none of its own, but a place and a line."""

import traceback
from pathlib import Path


def words(error: BaseException) -> str:
    """What was wrong and where, with whatever notes were attached to it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(last.filename).name}:{last.lineno}: {last.line}"
    notes = getattr(error, "__notes__", [])
    return "\n".join([f"{type(error).__name__}: {error}", where, *notes])
