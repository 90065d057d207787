"""``POST /api/credits/deduct``: charge for a feature that runs elsewhere."""

from dataclasses import replace
from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from tallystick.api.answers import replayed, response_of
from tallystick.api.asked import asked_of
from tallystick.api.bodies import Body, Number, body_schema, json_body
from tallystick.api.errors import Answered, InvalidRequest, PriceChanged
from tallystick.api.identify import Caller, GateDep
from tallystick.api.passage import running_of
from tallystick.api.priced import facts_of, prove
from tallystick.identity.keys import Scope
from tallystick.kernel.money import (
    InvalidAmount,
    MicroCredits,
    format_credits,
    parse_credits,
    to_decimal,
)
from tallystick.ledger.errors import InsufficientCredits
from tallystick.metering.charges import Charge, Usage, shortage
from tallystick.paywall.admit import admit, challenge_for
from tallystick.paywall.answer import Answer, charge_answer
from tallystick.paywall.deduct import deduct as deduct_once
from tallystick.paywall.facts import Facts
from tallystick.paywall.finish import finish_served
from tallystick.paywall.gate import Gate
from tallystick.paywall.once import key_of
from tallystick.paywall.plain import Deduction as PlainDeduction
from tallystick.paywall.verdicts import Serve
from tallystick.x402.errors import PaymentRejected

router = APIRouter(prefix="/api/credits", tags=["credits"])


class Deduction(Body):
    """What was used, and in ``amount`` what it should cost, in credits.

    The seller may set his own price where the catalog allows it; a customer can only
    confirm the catalog's.
    """

    feature: str
    quantity: Number = Decimal(1)
    amount: Number | None = None


@router.post("/deduct", openapi_extra=body_schema(Deduction))
async def deduct(
    request: Request,
    gate: GateDep,
    wanted: Annotated[Deduction, Depends(json_body(Deduction))],
) -> Response:
    """Take credits in one ledger write, or answer 402 with what is short."""
    feature = gate.catalog().feature(wanted.feature)
    asked = await asked_of(request)
    facts = facts_of(running_of(request), asked, feature, wanted.quantity)
    try:
        facts, caller = await prove(gate, asked, facts)
        facts = replace(facts, price=_price(facts, wanted, caller))
        if caller is None or caller.stranger or facts.payment is not None:
            return await _by_payment(gate, facts)
        return await _by_customer(gate, facts, caller)
    except (PaymentRejected, InsufficientCredits) as refusal:
        raise Answered(await challenge_for(gate, facts, refusal)) from refusal


async def _by_customer(gate: Gate, facts: Facts, caller: Caller) -> Response:
    caller.require(Scope.SPEND)
    if caller.customer_id is None:
        raise InvalidRequest("a service key names its customer in Tallystick-Customer")
    customer_id = caller.customer_id
    usage = Usage(
        customer_id,
        facts.feature.slug,
        facts.quantity,
        facts.price,
        gate.catalog().version,
    )
    # What costs nothing cannot be charged twice, and its stored answers would fill
    # the books for nothing.
    key = key_of(gate, facts, customer_id) if facts.price > 0 else None
    wanted = PlainDeduction(usage, key)
    try:
        done = await deduct_once(gate, wanted)
    except InsufficientCredits as error:
        async with gate.db.read() as session:
            raise await shortage(session, customer_id, usage.price) from error
    return replayed(done.answer) if done.replayed else response_of(done.answer)


def _price(facts: Facts, wanted: Deduction, caller: Caller | None) -> MicroCredits:
    if wanted.amount is None:
        return facts.price
    amount = parse_credits(wanted.amount)
    if amount < 0 or (amount == 0 and facts.price > 0):
        raise InvalidAmount(f"{wanted.amount} is not a possible amount")
    may_set = caller is not None and caller.is_seller
    if may_set and facts.feature.amount_override:
        return amount
    if amount != facts.price:
        raise PriceChanged(
            f"{facts.feature.slug} costs {format_credits(facts.price)} credits",
            credits=to_decimal(facts.price),
        )
    return amount


async def _by_payment(gate: Gate, facts: Facts) -> Response:
    verdict = await admit(gate, facts)
    if not isinstance(verdict, Serve):
        raise Answered(verdict)

    def answer(charged: Charge) -> Answer:
        paid = verdict.paid_by and verdict.paid_by.response_header(charged)
        return charge_answer(charged, *([paid] if paid else []))

    return response_of(answer(await finish_served(gate, verdict, answer)))
