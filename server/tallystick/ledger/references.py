"""What a transaction belongs to, spelled ``topup:42`` in its reference."""

import re

_LARGEST = (1 << 63) - 1


def reference_to(kind: str, number: int) -> str:
    """The reference to a row of another room."""
    return f"{kind}:{number}"


def number_in(reference: str, kind: str) -> int | None:
    """The row's number in a reference of this kind; None in any other text.

    Whoever books may choose a reference that looks alike, so the row must be looked at.
    """
    found = re.fullmatch(rf"{re.escape(kind)}:([0-9]{{1,19}})", reference)
    if found is None or int(found[1]) > _LARGEST:
        return None
    return int(found[1])
