"""``POST /api/credits/add``: buy credits with USDC."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field, StringConstraints
from starlette.responses import Response

from tallystick.api.answers import ExactJson, challenge_answer, root_of
from tallystick.api.asked import Asked, asked_of
from tallystick.api.bodies import Body, Number, body_schema, json_body
from tallystick.api.errors import InvalidRequest
from tallystick.api.identify import GateDep, identify_or_challenge, require_reader
from tallystick.api.passage import running_of
from tallystick.api.redemption import redeem_transfer
from tallystick.catalog.models import Catalog
from tallystick.kernel.money import to_decimal
from tallystick.payments.models.topups import PAID_STATES
from tallystick.payments.topups import public_facts
from tallystick.paywall.answer import NO_STORE
from tallystick.paywall.buy import Bought, Order, buy
from tallystick.paywall.challenges import PaymentRequired, challenge, require_open
from tallystick.paywall.gate import Gate
from tallystick.paywall.offered import recent_catalogs
from tallystick.paywall.offers import Offers, Wanted, offers_for_purchase
from tallystick.x402.challenge import render_payment_response
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.networks import NETWORKS
from tallystick.x402.wire import PaymentPayload

router = APIRouter(prefix="/api/credits", tags=["credits"])


_HASH = r"^0x[0-9a-fA-F]{64}$"


class Purchase(Body):
    """What to buy: a pack of the catalog, or credits for so many US dollars.

    Or a ``transactionId``: the transaction in which a wallet of the caller's has
    transferred USDC to us without a payment header.
    """

    pack: str | None = None
    amount: Number | None = None
    transaction_id: Annotated[str, StringConstraints(pattern=_HASH)] | None = Field(
        default=None, alias="transactionId"
    )


@router.post("/add", openapi_extra=body_schema(Purchase))
async def add_credits(
    request: Request,
    gate: GateDep,
    wanted: Annotated[Purchase, Depends(json_body(Purchase))],
) -> Response:
    """Unpaid: 402 with one offer. Paid: the credits, once, for every copy alike.

    Unpaid while no payment could be settled: 503, as a payment would be answered.

    With a ``transactionId`` the caller must be known, and the wallet that sent it his.
    """
    if wanted.transaction_id is not None:
        _require_nothing_else(wanted)
        sender = await require_reader(request)
        return await redeem_transfer(gate, sender, wanted.transaction_id)
    asked = await asked_of(request)
    binding = asked.binding("credits")
    past = await recent_catalogs(gate) if asked.brings_payment() else []
    offers = _offers(gate, wanted, binding, past)
    wait_ms = asked.wait_ms(running_of(request).settle_wait_ms)
    try:
        caller = await identify_or_challenge(gate, request.headers)
        caller_id = caller.customer_id if caller is not None else None
        payload = _payment(asked)
        order = Order(offers, caller_id, wait_ms, asked.idempotency_key())
        bought = await buy(gate, order, payload)
    except (PaymentRequired, PaymentRejected) as refusal:
        if isinstance(refusal, PaymentRequired):
            require_open(gate.rail)
        # What is not sold any more is offered to nobody anew.
        answer = _challenge(gate, _offers(gate, wanted, binding), refusal, asked.url)
        return challenge_answer(answer, root_of(request.scope) + gate.api_prefix)
    return _receipt(bought, payload.version)


def _require_nothing_else(wanted: Purchase) -> None:
    if wanted.pack is not None or wanted.amount is not None:
        raise InvalidRequest("a transactionId says what was paid: name nothing else")


def _payment(asked: Asked) -> PaymentPayload:
    payload = asked.payment()
    if payload is None:
        raise PaymentRequired("credits are bought")
    return payload


def _offers(
    gate: Gate, wanted: Purchase, binding: str, past: Sequence[Catalog] = ()
) -> Offers:
    if (wanted.pack is None) == (wanted.amount is None):
        raise InvalidRequest("name either a pack or an amount in US dollars")
    chosen = Wanted(wanted.pack, wanted.amount)
    return offers_for_purchase(gate, binding, chosen, past)


def _challenge(
    gate: Gate, offers: Offers, refusal: PaymentRequired | PaymentRejected, url: str
) -> Any:
    words = f"Buy {to_decimal(offers.v2[0].credits + offers.v2[0].bonus):f} credits"
    return challenge(gate, offers, refusal, url=url, description=words)


def _receipt(bought: Bought, version: int) -> Response:
    topup = bought.topup
    assert topup.state in PAID_STATES
    assert topup.tx_hash is not None
    added = to_decimal(topup.credits + topup.bonus)
    document: dict[str, Any] = {
        "success": True,
        "added": added,
        "topup": public_facts(topup),
    }
    headers = dict(NO_STORE)
    if bought.replayed:
        headers["Idempotency-Replayed"] = "true"
    if bought.is_proven:
        document["credits"] = to_decimal(topup.balance_after or 0)
    network = f"eip155:{topup.chain_id}"
    name = "PAYMENT-RESPONSE" if version == 2 else "X-PAYMENT-RESPONSE"
    headers[name] = render_payment_response(
        success=True,
        transaction=f"0x{topup.tx_hash.hex()}",
        network=network if version == 2 else NETWORKS[network].v1_name,
        payer=topup.payer,
        amount=topup.value,
    )
    return ExactJson(document, headers=headers)
