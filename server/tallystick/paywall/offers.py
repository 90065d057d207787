"""What a 402 offers, in the order in which stock clients take it.

They pay the first entry that they may, at most once. Version 2 clients have a cap of
$1, so the automatic top-up comes first; version 1 clients have one of $0.10, so the
exact shortfall comes first there.
"""

from dataclasses import dataclass

from tallystick.catalog.errors import TopUpOutOfBounds
from tallystick.catalog.models import Catalog
from tallystick.catalog.pricing import (
    credits_for_usdc,
    pack_bonus,
    pack_price,
    smallest_topup,
    topup_for_shortfall,
)
from tallystick.kernel.money import NO_CREDITS, MicroCredits, UsdcAtomic
from tallystick.payments.presented import terms_of
from tallystick.payments.quotes import Quote, seal_quote
from tallystick.paywall.facts import Facts
from tallystick.paywall.gate import Gate
from tallystick.x402.wire import PaymentTerms


@dataclass(frozen=True, slots=True)
class Offers:
    """The same quotes for both versions, each in its own order."""

    v2: list[Quote]
    v1: list[Quote]

    def terms(self, gate: Gate, version: int) -> list[PaymentTerms]:
        """The entries of ``accepts`` for a version, sealed."""
        quotes = self.v2 if version == 2 else self.v1
        return [terms_of(gate.rail, one, seal_quote(gate.seal, one)) for one in quotes]


def offers_for_call(gate: Gate, facts: Facts, available: MicroCredits) -> Offers:
    """What covers a call's shortfall; nothing when no single top-up can."""
    catalog = gate.catalog()
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


def offers_for_purchase(
    gate: Gate, binding: str, usdc: UsdcAtomic, pack_id: str | None
) -> Offers:
    """One entry: the pack or the amount that the customer chose.

    Raises ``UnknownPack``.
    """
    catalog = gate.catalog()
    bonus = MicroCredits(0)
    purpose = "credits"
    if pack_id is not None:
        pack = catalog.pack(pack_id)
        usdc, bonus, purpose = pack_price(pack), pack_bonus(pack), f"pack {pack.id}"
    quote = _quote(gate, catalog, binding, usdc, bonus=bonus, purpose=purpose)
    return Offers([quote], [quote])


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
