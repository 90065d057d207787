"""What to do for a nonce that is not in a block yet: pure, so that it can be proven.

Every later transaction of a key waits behind its lowest open nonce. So none is left
alone: its bytes are sent again; it is signed again with higher fees when the chain is
silent for too long; and when its authorization has died meanwhile, a transaction of
nothing takes the nonce, because a revert costs more gas.
"""

from dataclasses import dataclass
from enum import StrEnum

MOST_ATTEMPTS = 10
"""Settlements signed at one nonce. By then the fees have tripled."""
MOST_WITH_FILLERS = 20
"""Transactions signed at one nonce. A filler costs a fifth, and must get through."""
MOST_TIMES = 4
"""A settlement's fees are not raised above so many times today's."""


class Effort(StrEnum):
    """What to do for an open nonce."""

    WAIT = "wait"
    SEND = "send"
    REPLACE = "replace"
    FILL = "fill"


@dataclass(frozen=True, slots=True)
class Standing:
    """How an open nonce stands: what its newest attempt is, and what became of it.

    ``would_revert``: a rehearsal says that its settlement cannot succeed by now.
    ``is_stuck``: it is the lowest, and the chain was silent for too long. ``is_last``:
    nothing waits behind it. ``is_due``: its bytes were not sent for a while.
    """

    attempts: int
    is_filler: bool = False
    would_revert: bool = False
    is_stuck: bool = False
    is_last: bool = False
    is_due: bool = False


def effort_for(one: Standing) -> Effort:
    """The next effort. A settlement that would revert is not sent any more."""
    if one.would_revert and not one.is_filler:
        may_fill = one.is_stuck or not one.is_last
        fits = one.attempts < MOST_WITH_FILLERS
        return Effort.FILL if may_fill and fits else Effort.WAIT
    if one.is_stuck and may_replace(one):
        return Effort.REPLACE
    return Effort.SEND if one.is_due else Effort.WAIT


def may_replace(one: Standing) -> bool:
    """Whether the bounds allow another attempt of the same kind."""
    return one.attempts < (MOST_WITH_FILLERS if one.is_filler else MOST_ATTEMPTS)
