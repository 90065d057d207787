"""How much may be paid back by whom."""

from dataclasses import dataclass

_DOLLAR: int = 10**6


@dataclass(frozen=True, slots=True)
class PaybackRules:
    """Bounds on paybacks, in atomic USDC.

    Above ``approval_above`` a second operator must approve. The float pays at most
    ``most`` at a time and ``per_day`` in a UTC day.
    """

    approval_above: int = 50 * _DOLLAR
    most: int = 50 * _DOLLAR
    per_day: int = 200 * _DOLLAR


PAYBACK_RULES = PaybackRules()
