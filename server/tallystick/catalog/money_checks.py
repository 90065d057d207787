"""What must hold between the amounts of a catalog.

Nothing that it allows may reach ``AMOUNT_LIMIT``, in credits or in USDC, and nothing
that it sells may come to no credits at all.
"""

from collections.abc import Iterator
from decimal import Decimal

from tallystick.catalog.draft import Draft, Finding
from tallystick.catalog.models import SCALE, Credit, Feature, TopUp
from tallystick.kernel.money import AMOUNT_LIMIT, parse_decimal

_ONE: int = 10**SCALE


def money_findings(draft: Draft) -> Iterator[Finding]:
    """Bounds that contradict each other, and amounts that are too large or nothing."""
    if draft.topup:
        yield from _bounds(draft.topup)
        yield from _pack_prices(draft, draft.topup)
    if draft.credit:
        yield from _dearest_calls(draft, draft.credit)
        yield from _packs_bought(draft, draft.credit)
    if draft.credit and draft.topup:
        yield from _topups_bought(draft.topup, draft.credit)
        yield from _cheapest_calls(draft, draft.credit, draft.topup)


def _bounds(topup: TopUp) -> Iterator[Finding]:
    low, automatic, high = topup.minimum_usd, topup.auto_topup_usd, topup.maximum_usd
    if low > high:
        reason = f"{low} is above maximum_usd, {high}"
        yield Finding(("topup", "minimum_usd"), reason, "Lower it.")
    elif not low <= automatic <= high:
        reason = f"{automatic} is not between minimum_usd, {low}, and maximum_usd, "
        remedy = "Move it in between, or widen the bounds."
        yield Finding(("topup", "auto_topup_usd"), f"{reason}{high}", remedy)


def _pack_prices(draft: Draft, topup: TopUp) -> Iterator[Finding]:
    if topup.minimum_usd > topup.maximum_usd:
        return  # one complaint about the bounds says it for every pack
    for at, pack in draft.packs.items():
        path = ("pack", at, "price_usd")
        if pack.price_usd < topup.minimum_usd:
            reason = f"{pack.price_usd} is below minimum_usd, {topup.minimum_usd}"
            yield Finding(path, reason, "Raise it, or lower minimum_usd in [topup].")
        if pack.price_usd > topup.maximum_usd:
            reason = f"{pack.price_usd} is above maximum_usd, {topup.maximum_usd}"
            yield Finding(path, reason, "Lower it, or raise maximum_usd in [topup].")


def _dearest_calls(draft: Draft, credit: Credit) -> Iterator[Finding]:
    for at, feature in draft.features.items():
        if _dearest(feature, credit) >= AMOUNT_LIMIT:
            most = f"{feature.maximum_quantity} times {feature.price}"
            reason = f"the dearest call, {most} {credit.plural}, is beyond any amount"
            remedy = "Lower maximum_quantity or the price."
            yield Finding(("feature", at, "maximum_quantity"), reason, remedy)


def _dearest(feature: Feature, credit: Credit) -> int:
    """The dearest call, in micro-credits or in atomic USDC, whichever is more."""
    # -(-a // b) rounds up, as the prices do.
    most = -(-_atomic(feature.price) * _atomic(feature.maximum_quantity) // _ONE)
    return max(most, -(-most * _atomic(credit.price_usd) // _ONE))


def _cheapest_calls(draft: Draft, credit: Credit, topup: TopUp) -> Iterator[Finding]:
    for at, feature in draft.features.items():
        # Decimal would round at 28 digits; these products are longer.
        least = _atomic(feature.price) * _atomic(feature.minimum_quantity)
        if least * _atomic(credit.price_usd) > _atomic(topup.maximum_usd) * _ONE**2:
            reason = "no single top-up, up to maximum_usd, pays for its smallest call"
            remedy = "Lower the price, or raise maximum_usd in [topup]."
            yield Finding(("feature", at, "price"), reason, remedy)


def _packs_bought(draft: Draft, credit: Credit) -> Iterator[Finding]:
    for at, pack in draft.packs.items():
        bought = _bought(pack.price_usd, credit)
        yield from _possible(bought, ("pack", at, "price_usd"), credit)
        if bought < AMOUNT_LIMIT <= bought + _atomic(pack.bonus):
            reason = f"a bonus of {pack.bonus} {credit.plural} is beyond any amount"
            yield Finding(("pack", at, "bonus"), reason, "Lower it.")


def _topups_bought(topup: TopUp, credit: Credit) -> Iterator[Finding]:
    for key in ("minimum_usd", "maximum_usd"):
        bought = _bought(getattr(topup, key), credit)
        yield from _possible(bought, ("topup", key), credit)


def _possible(
    bought: int, path: tuple[str | int, ...], credit: Credit
) -> Iterator[Finding]:
    """Whether so many micro-credits can be sold at once."""
    if bought == 0:
        reason = f"it buys less than a millionth of one {credit.name}"
        yield Finding(path, reason, "Raise it, or lower price_usd in [credit].")
    if bought >= AMOUNT_LIMIT:
        reason = f"it buys more {credit.plural} than any amount can be"
        yield Finding(path, reason, "Lower it, or raise price_usd in [credit].")


def _bought(usd: Decimal, credit: Credit) -> int:
    return _atomic(usd) * _ONE // _atomic(credit.price_usd)


def _atomic(number: Decimal) -> int:
    return parse_decimal(number, SCALE)
