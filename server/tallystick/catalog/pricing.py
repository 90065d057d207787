"""What a call costs and what money buys: pure, exact, integers only.

Everything rounds once, at the sixth decimal, and towards the house, so that a customer
can never gain by cutting a purchase into pieces. What it costs a customer is less than
one micro-credit a step, and nothing at all where the credit's price divides a dollar.
"""

from decimal import Decimal

from tallystick.catalog.errors import TopUpOutOfBounds
from tallystick.catalog.models import Catalog, Feature, Pack
from tallystick.catalog.quantity import quantity_micro
from tallystick.kernel.money import (
    AMOUNT_LIMIT,
    USDC_SCALE,
    InvalidAmount,
    MicroCredits,
    UsdcAtomic,
    parse_credits,
    parse_decimal,
)

_MICRO = 10**6
_CENT = 10**4


def unit_price(feature: Feature) -> MicroCredits:
    """Micro-credits for one unit."""
    return parse_credits(feature.price)


def credit_price(catalog: Catalog) -> UsdcAtomic:
    """Atomic units of USDC for one credit."""
    return _usdc(catalog.credit.price_usd)


def price(feature: Feature, quantity: Decimal | int = 1) -> MicroCredits:
    """Micro-credits for so many units; the seventh decimal rounds up.

    Raises ``InvalidQuantity``.
    """
    units = quantity_micro(feature, quantity)
    return MicroCredits(_ceil(unit_price(feature) * units, _MICRO))


def credits_for_usdc(catalog: Catalog, usdc: UsdcAtomic) -> MicroCredits:
    """Micro-credits that so much USDC buys, rounded down; without any bonus.

    Raises ``InvalidAmount`` when negative or too many.
    """
    bought = _amount(usdc) * _MICRO // credit_price(catalog)
    return MicroCredits(_amount(bought))


def usdc_for_credits(catalog: Catalog, wanted: MicroCredits) -> UsdcAtomic:
    """The least USDC, in atomic units, that buys at least so many micro-credits.

    Raises ``InvalidAmount`` when negative or too much.
    """
    cost = _ceil(_amount(wanted) * credit_price(catalog), _MICRO)
    return UsdcAtomic(_amount(cost))


def topup_for_shortfall(catalog: Catalog, shortfall: MicroCredits) -> UsdcAtomic:
    """What a 402 asks for first: the automatic top-up, or more if the call needs it.

    Raises ``TopUpOutOfBounds`` when no single top-up can cover the shortfall.
    """
    automatic = _usdc(catalog.topup.auto_topup_usd)
    return max(automatic, smallest_topup(catalog, shortfall))


def smallest_topup(catalog: Catalog, shortfall: MicroCredits) -> UsdcAtomic:
    """What covers the shortfall and no more, but the catalog's minimum at least.

    Raises ``TopUpOutOfBounds`` when no single top-up can cover the shortfall.
    """
    minimum = _usdc(catalog.topup.minimum_usd)
    return _in_bounds(catalog, max(minimum, usdc_for_credits(catalog, shortfall)))


def topup_for_usd(catalog: Catalog, usd: Decimal | int | str) -> UsdcAtomic:
    """The USDC of a top-up whose dollars the customer chose.

    Raises ``InvalidAmount`` for no exact number, ``TopUpOutOfBounds``.
    """
    return _in_bounds(catalog, _usdc(usd))


def pack_price(pack: Pack) -> UsdcAtomic:
    """Atomic units of USDC that the pack costs."""
    return _usdc(pack.price_usd)


def pack_bonus(pack: Pack) -> MicroCredits:
    """Micro-credits on top of what the pack's price buys: the promotional part."""
    return parse_credits(pack.bonus)


def pack_credits(catalog: Catalog, pack: Pack) -> MicroCredits:
    """Micro-credits in the pack, paid and bonus together."""
    paid = credits_for_usdc(catalog, pack_price(pack))
    return MicroCredits(_amount(paid + pack_bonus(pack)))


def savings(catalog: Catalog, pack: Pack) -> UsdcAtomic | None:
    """USDC saved against the dearest pack per credit, in whole cents rounded down.

    None where less than a cent is saved: savings are true.
    """
    content = pack_credits(catalog, pack)
    # Rates are compared as fractions, cost/credits, so that nothing is rounded early.
    at_dearest = max(
        pack_price(other) * content // pack_credits(catalog, other)
        for other in catalog.packs
    )
    cents = (at_dearest - pack_price(pack)) // _CENT
    return UsdcAtomic(cents * _CENT) if cents > 0 else None


def _in_bounds(catalog: Catalog, usdc: UsdcAtomic) -> UsdcAtomic:
    minimum = _usdc(catalog.topup.minimum_usd)
    maximum = _usdc(catalog.topup.maximum_usd)
    if not minimum <= usdc <= maximum:
        raise TopUpOutOfBounds(usdc, minimum, maximum)
    return usdc


def _usdc(usd: Decimal | int | str) -> UsdcAtomic:
    return UsdcAtomic(parse_decimal(usd, USDC_SCALE))


def _amount(atomic: int) -> int:
    if not 0 <= atomic < AMOUNT_LIMIT:
        raise InvalidAmount(f"{atomic} is not a possible amount")
    return atomic


def _ceil(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
