"""Ways in which a payment can be settled, each by somebody else.

What is offered and what is taken depends on who would settle it: one of them may be in
trouble while the others are well.
"""

from dataclasses import dataclass, field
from enum import StrEnum

UNSEEN = "no worker has been seen since the start"


class Way(StrEnum):
    """How a payment is signed, and so by whom it is settled."""

    EIP3009 = "eip3009"
    """The token's own method: by the facilitator if there is one, or by relayers."""
    PERMIT2 = "permit2"
    """By relayers alone, as are payments to other sellers."""
    ERC6492 = "erc6492"
    """With the deployment of its payer's wallet: by the deployer's key alone."""


@dataclass(slots=True)
class Elsewhere:
    """Workers of other processes, and what is in the way of all of them, by way."""

    obstacles: dict[Way, str | None] = field(
        default_factory=lambda: dict.fromkeys(Way, UNSEEN)
    )
