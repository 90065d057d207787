"""What a feature is given beside its own arguments, and how it says no to those."""

from dataclasses import dataclass

from tallystick.chain.rpc import Chain
from tallystick.kernel.errors import BadInput, Unavailable
from tallystick.x402.keccak import checksum_address, read_address


@dataclass(frozen=True, slots=True)
class FeatureContext:
    """The chain to look at, and how much of it one call may look at.

    ``timeout_seconds`` bounds the whole call, ``at_once`` the contracts that are read
    side by side, ``recent_blocks`` how far back "recent" reaches.
    """

    chain: Chain
    timeout_seconds: float = 20
    at_once: int = 4
    recent_blocks: int = 1_000


class InvalidFeatureArgument(BadInput):
    """An argument of a feature that it cannot work with; ``field`` names it."""

    next_step = "Correct the field that is named, and call again."

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", field=field)


class FeatureTimedOut(Unavailable):
    """The feature did not finish in time; nothing is charged for it."""

    next_step = "Call again, or ask for less at once."


def parse_address(field: str, value: object) -> bytes:
    """The 20 bytes of an address; mixed case must be EIP-55's.

    It takes what a catalog's ``type = "address"`` takes, neither more nor less. Raises
    ``InvalidFeatureArgument``.
    """
    try:
        return read_address(value)
    except ValueError as error:
        raise InvalidFeatureArgument(field, str(error)) from None


def show_address(address: bytes) -> str:
    """The address as people read it, with its EIP-55 checksum."""
    return checksum_address(address)
