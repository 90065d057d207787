"""From a request for a feature to the paywall's verdict."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers, QueryParams

from tallystick.api.asked import LARGEST_PRICED_BODY_BYTES, Asked
from tallystick.api.bodies import bounded_body, read_json
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


async def parameters_of(request: Request, feature: Feature) -> dict[str, Any]:
    """The call's parameters: those of the path, the query and a JSON body."""
    body = b""
    if is_json(request.headers):
        body = await bounded_body(request, LARGEST_PRICED_BODY_BYTES)
    found = told_parameters(feature, request.query_params, body)
    return found | dict(request.path_params)


def is_json(headers: Headers) -> bool:
    """Whether the body calls itself JSON."""
    return "json" in headers.get("content-type", "")


def told_parameters(
    feature: Feature, query: QueryParams, json_body: bytes
) -> dict[str, Any]:
    """The parameters in a query and a JSON body; raises ``InvalidRequest``."""
    found: dict[str, Any] = {}
    for name in query:
        values = query.getlist(name)
        found[name] = _items(values) if _is_list(feature, name) else values[-1]
    body = read_json(json_body or b"{}")
    if isinstance(body, Mapping):
        found.update(body)
    return found


def _is_list(feature: Feature, name: str) -> bool:
    return name in feature.parameters and feature.parameters[name].type == "list"


def _items(values: list[str]) -> list[str]:
    return [item for value in values for item in value.split(",") if item]


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
