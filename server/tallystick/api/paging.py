"""Lists that are told page by page."""

import re

from tallystick.api.errors import InvalidRequest

_CURSOR = re.compile("[0-9]{1,19}")
_LARGEST = (1 << 63) - 1
"""What the databases have for a whole number."""


def read_cursor(cursor: str | None) -> int | None:
    """The number in a page's ``next_cursor``; raises ``InvalidRequest``."""
    if cursor is None:
        return None
    if not _CURSOR.fullmatch(cursor) or int(cursor) > _LARGEST:
        raise InvalidRequest("the cursor is not one that a page gave", field="cursor")
    return int(cursor)
