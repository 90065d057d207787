"""What a 402 offers, in the order in which stock clients take it.

They pay the first entry that they may, at most once. Version 2 clients have a cap of
$1, so the automatic top-up comes first; version 1 clients have one of $0.10, so the
exact shortfall comes first there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal

from tallystick.catalog.errors import (
    InvalidQuantity,
    TopUpOutOfBounds,
    UnknownFeature,
    UnknownPack,
)
from tallystick.catalog.models import Catalog
from tallystick.catalog.pricing import (
    credits_for_usdc,
    pack_bonus,
    pack_price,
    price,
    smallest_topup,
    topup_for_shortfall,
    topup_for_usd,
)
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.money import NO_CREDITS, MicroCredits, UsdcAtomic, to_decimal
from tallystick.payments.presented import terms_of
from tallystick.payments.quotes import Quote, seal_quote
from tallystick.payments.rail import Rail
from tallystick.payments.ways import Way
from tallystick.paywall.facts import Facts
from tallystick.paywall.gate import Gate
from tallystick.x402.wire import PaymentTerms


@dataclass(frozen=True, slots=True)
class Offers:
    """The same quotes for both versions, each in its own order.

    ``past`` are those of catalogs before, which somebody may hold who cannot show it.
    """

    v2: list[Quote]
    v1: list[Quote]
    past: list[Quote] = field(default_factory=list)

    def terms(self, gate: Gate, version: int, *, may_waive: bool) -> list[PaymentTerms]:
        """The entries of ``accepts`` for a version, sealed; see ``ways_offered``."""
        rail, quotes = gate.rail, self.v2 if version == 2 else self.v1
        sealed = [(one, seal_quote(gate.seal, one)) for one in quotes]
        return [
            terms_of(rail, one, token, by_permit2=way == Way.PERMIT2)
            for way in ways_offered(rail, version, may_waive=may_waive)
            for one, token in sealed
        ]


def ways_offered(rail: Rail, version: int, *, may_waive: bool) -> tuple[Way, ...]:
    """The ways in which a client of that version may pay, in their order.

    Only those in which somebody could settle now. But a payment that may be waived
    needs nobody who settles it: where no way is open all are named, because a wallet
    with credits spends them by signing one (docs/decisions/0036).
    """
    # Permit2 last: it needs an approval, so nobody should take it who may choose.
    known = rail.ways if version == 2 else (Way.EIP3009,)
    is_open = tuple(one for one in known if rail.offering_obstacle(one) is None)
    return is_open or (known if may_waive else ())


def offers_for_call(
    gate: Gate,
    facts: Facts,
    available: MicroCredits,
    catalog: Catalog | None = None,
) -> Offers:
    """What covers a call's shortfall; nothing when no single top-up can."""
    catalog = catalog or gate.catalog()
    shortfall = MicroCredits(max(facts.price - available, 1))
    try:
        automatic = topup_for_shortfall(catalog, shortfall)
        exact = smallest_topup(catalog, shortfall)
    except TopUpOutOfBounds:
        return Offers([], [])
    amounts = [automatic] if exact >= automatic else [automatic, exact]
    quotes = [
        _quote(
            gate,
            catalog,
            facts.binding,
            usdc,
            charge=facts.price,
            purpose=f"call of {facts.feature.slug}",
        )
        for usdc in amounts
    ]
    return Offers(quotes, quotes[::-1])


def past_quotes_for_call(
    gate: Gate, facts: Facts, available: MicroCredits, catalog: Catalog
) -> list[Quote]:
    """What another catalog offered for the call, at its own price."""
    try:
        feature = catalog.feature(facts.feature.slug)
        cost = price(feature, to_decimal(facts.quantity))
    except (UnknownFeature, InvalidQuantity):
        return []
    then = replace(facts, price=cost)
    return offers_for_call(gate, then, available, catalog).v1 if cost else []


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a customer wants to buy: a pack, or credits for so many US dollars."""

    pack_id: str | None
    usd: Decimal | int | None


def offers_for_purchase(
    gate: Gate, binding: str, wanted: Wanted, past: Sequence[Catalog] = ()
) -> Offers:
    """One entry: the pack or the amount that the customer chose.

    Raises ``UnknownPack`` or ``TopUpOutOfBounds`` when neither the catalog nor one of
    the ``past`` sells it, and ``InvalidAmount``.
    """
    found: list[Quote] = []
    refusals: list[TallystickError] = []
    for catalog in (gate.catalog(), *past):
        try:
            found.append(_purchase(gate, catalog, binding, wanted))
        except (UnknownPack, TopUpOutOfBounds) as refusal:
            refusals.append(refusal)
    if not found:
        raise refusals[0]
    return Offers(found[:1], found[:1], found[1:])


def _purchase(gate: Gate, catalog: Catalog, binding: str, wanted: Wanted) -> Quote:
    if wanted.pack_id is not None:
        pack = catalog.pack(wanted.pack_id)
        usdc, bonus, purpose = pack_price(pack), pack_bonus(pack), f"pack {pack.id}"
    else:
        assert wanted.usd is not None, "something is wanted"
        usdc, bonus, purpose = topup_for_usd(catalog, wanted.usd), NO_CREDITS, "credits"
    return _quote(gate, catalog, binding, usdc, bonus=bonus, purpose=purpose)


def _quote(
    gate: Gate,
    catalog: Catalog,
    binding: str,
    usdc: UsdcAtomic,
    *,
    purpose: str,
    charge: MicroCredits = NO_CREDITS,
    bonus: MicroCredits = NO_CREDITS,
) -> Quote:
    return Quote(
        binding=binding,
        catalog_version=catalog.version,
        usdc=usdc,
        credits=credits_for_usdc(catalog, usdc),
        bonus=bonus,
        charge=charge,
        purpose=purpose,
        expires_at=gate.rail.now_seconds() + gate.quote_seconds,
        pay_to=gate.rail.pay_to.hex(),
    )
