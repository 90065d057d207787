"""What gas may cost: in a day, for one payer, and against the value that it moves."""

from dataclasses import dataclass

from tallystick.kernel.money import USDC_SCALE

DOLLAR: int = 10**USDC_SCALE
"""In atomic USDC."""
WEI = 10**18
"""In one ether."""
MOST_ETHER = 4
"""A budget cannot be more: twice as much must fit in 64 bits."""
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class GasRules:
    """Bounds on what gas costs; wei, dollars for one ether, atomic USDC.

    ``per_day`` is what each key may spend in a UTC day, ``per_payer`` what may come to
    nothing of one payer's settlements in it, ``per_merchant`` what may be spent on those
    of another seller. A settlement may cost ``percent`` of what
    it moves, or ``floor`` if that is more, at ``ether_dollars`` (A31).
    """

    per_day: int = WEI // 20
    per_payer: int = WEI // 500
    per_merchant: int = WEI // 200
    ether_dollars: int = 5_000
    percent: int = 5
    floor: int = 60_000

    @property
    def per_day_at_most(self) -> int:
        """With what is kept for bringing to its end what is signed: a quarter more."""
        return self.per_day * 5 // 4

    def most_wei(self, value: int) -> int:
        """The most that settling so much USDC may cost."""
        usdc = max(self.floor, value * self.percent // 100)
        return usdc * WEI // (self.ether_dollars * DOLLAR)


GAS_RULES = GasRules()


def day_at(now_ms: int) -> int:
    """The UTC day, counted from the Unix epoch."""
    return now_ms // _DAY_MS
