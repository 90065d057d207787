"""From a request for a feature to the paywall's verdict."""

from dataclasses import replace
from decimal import Decimal

from tallystick.api.asked import Asked
from tallystick.api.identify import Caller, identify_or_challenge
from tallystick.api.passage import Running
from tallystick.catalog.models import Feature
from tallystick.catalog.pricing import price
from tallystick.catalog.quantity import quantity_micro
from tallystick.identity.keys import Scope
from tallystick.paywall.admit import admit, challenge_for
from tallystick.paywall.facts import Facts
from tallystick.paywall.gate import Gate
from tallystick.paywall.verdicts import Verdict
from tallystick.x402.errors import PaymentRejected

UNPRICED_METHODS = frozenset({"OPTIONS", "HEAD"})
"""A question about a resource is not its use."""


async def admit_asked(
    running: Running,
    asked: Asked,
    feature: Feature,
    units: Decimal | int,
    *,
    may_be_foreign: bool,
) -> Verdict:
    """The paywall's verdict; raises every refusal that is no 402 as its error.

    ``may_be_foreign`` as ``identify`` has it.
    """
    gate = running.gate
    facts = facts_of(running, asked, feature, units)
    try:
        facts, caller = await prove(gate, asked, facts, may_be_foreign=may_be_foreign)
    except PaymentRejected as refusal:
        return await challenge_for(gate, facts, refusal)
    if caller is not None and facts.payment is None:
        caller.require(Scope.SPEND)
    return await admit(gate, facts)


def facts_of(
    running: Running, asked: Asked, feature: Feature, units: Decimal | int
) -> Facts:
    """What is asked for, before anybody is known to ask."""
    quantity, cost = quantity_micro(feature, units), price(feature, units)
    return asked.facts(feature, quantity, cost, running.settle_wait_ms)


async def prove(
    gate: Gate, asked: Asked, facts: Facts, *, may_be_foreign: bool = False
) -> tuple[Facts, Caller | None]:
    """The facts with who asks, and with the payment that came along.

    Raises ``PaymentRejected`` for what deserves a 402 with new offers, and every other
    refusal as its error.
    """
    payment = asked.payment()
    caller = await identify_or_challenge(
        gate, asked.headers, may_be_foreign=may_be_foreign
    )
    if caller is None:
        return replace(facts, payment=payment), None
    proven = replace(
        facts,
        payment=payment,
        customer_id=caller.customer_id,
        may_spend=caller.may(Scope.SPEND),
    )
    return proven, caller
