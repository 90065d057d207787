"""The 402 answer: what is short, and everything needed to pay and go on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallystick.catalog.models import Catalog
from tallystick.catalog.render import catalog_document
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.money import to_decimal
from tallystick.ledger.errors import InsufficientCredits
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.rail import Rail
from tallystick.paywall.gate import Gate
from tallystick.paywall.offers import Offers
from tallystick.x402.challenge import Resource, render_challenge
from tallystick.x402.errors import PaymentIdentifierMissing, PaymentRejected
from tallystick.x402.payment_identifier import declare_payment_identifier
from tallystick.x402.wire import PaymentPayload

_NOTHING: Mapping[str, Any] = {}
_WAYS_TO_PAY = ("topup_url", "packs")
_TOPUPS_ARE_OFF = (
    "Top-ups are switched off on this server. Call with an API key whose customer has"
    " credits, or try again later."
)
_LATER = (
    "No payment can be settled right now, so none is offered: nothing was charged. Ask"
    " again after the time in `Retry-After`."
)
_CREDITS_ALONE = (
    "No payment can be settled right now. A wallet that has credits spends them by"
    " signing an entry of `accepts` all the same; without credits, ask again after the"
    " time in `Retry-After`."
)


class PaymentRequired(TallystickError):
    """The request is priced and nobody pays for it yet."""

    status = 402
    title = "Payment is required"
    next_step = "Pay one of the entries in `accepts`, or call with an API key."


@dataclass(frozen=True, slots=True)
class Challenge:
    """A 402 for both protocol versions, in no framework's words."""

    headers: Mapping[str, str]
    body: Mapping[str, Any]


def challenge(
    gate: Gate,
    offers: Offers,
    refusal: TallystickError,
    *,
    url: str,
    description: str,
    sign_in_path: str | None = None,
    extensions: Mapping[str, Any] = _NOTHING,
    may_waive: bool = False,
) -> Challenge:
    """The answer for a refusal: problem document, offers and, if wanted, a sign-in.

    ``extensions`` are told beside ours. Its ``type`` is the edge's to add, which knows
    where our page of errors is. A server that takes no payments offers none, and says
    so; one that could settle none now says when to come again, and offers only what
    ``may_waive`` leaves a use for.
    """
    if not gate.rail.takes_payments:
        offers = Offers([], [])
    told = declare_payment_identifier(required=gate.wants_identifiers)
    if gate.wants_identifiers:
        offers = Offers(offers.v2, [])  # version 1 has no place for a name
    if sign_in_path is not None:
        told |= gate.sign_in.offer(sign_in_path)
    v2 = offers.terms(gate, 2, may_waive=may_waive)
    rendered = render_challenge(
        Resource(url, description),
        v2,
        offers.terms(gate, 1, may_waive=may_waive),
        error=_error_text(refusal),
        extensions={**told, **extensions},
    )
    body = rendered.body | _problem(gate.catalog(), gate.api_url, refusal)
    headers = {"PAYMENT-REQUIRED": rendered.header} if v2 else {}
    if not gate.rail.takes_payments:
        body = {name: body[name] for name in body if name not in _WAYS_TO_PAY}
        body["next_step"] = _TOPUPS_ARE_OFF
    elif (why := why_closed(gate.rail)) is not None:
        body["top_ups_unavailable"] = why
        if not v2:
            body["next_step"] = _LATER
        elif not isinstance(refusal, PaymentRejected):
            body["next_step"] = _CREDITS_ALONE  # else it says what to sign instead
        headers["Retry-After"] = str(TopUpsUnavailable.retry_after_seconds)
    return Challenge(headers, body)


def why_closed(rail: Rail) -> str | None:
    """Why no payment is settled now, in words; None when some way is open."""
    found = [rail.offering_obstacle(one) for one in rail.ways]
    return None if None in found else found[0]


def require_open(rail: Rail) -> None:
    """Raise ``TopUpsUnavailable`` when whatever is bought now would be refused.

    Not where top-ups are switched off, which no time mends.
    """
    why = why_closed(rail)
    if rail.takes_payments and why is not None:
        raise TopUpsUnavailable(why)


def require_identifier(gate: Gate, payload: PaymentPayload) -> None:
    """Raise ``PaymentIdentifierMissing`` when the server wants one and none came."""
    if gate.wants_identifiers and payload.identifier is None:
        raise PaymentIdentifierMissing


def _error_text(refusal: TallystickError) -> str:
    if isinstance(refusal, PaymentRejected):
        return refusal.reason
    return "Payment required"


def _problem(
    catalog: Catalog, api_url: str, refusal: TallystickError
) -> dict[str, Any]:
    problem: dict[str, Any] = {
        "title": refusal.title,
        "status": 402,
        "detail": refusal.detail,
        "code": refusal.code,
        "next_step": refusal.next_step,
        "topup_url": f"{api_url}/api/credits/add",
        "packs": catalog_document(catalog)["packs"],
        **refusal.members,
    }
    if isinstance(refusal, InsufficientCredits):
        problem |= figures(refusal.required, refusal.available or 0)
    return problem


def figures(required: int, available: int) -> dict[str, Any]:
    """The numbers of a shortage; given micro-credits, told in credits."""
    return {
        "credits": to_decimal(available),
        "required": to_decimal(required),
        "shortfall": to_decimal(max(required - available, 0)),
    }
