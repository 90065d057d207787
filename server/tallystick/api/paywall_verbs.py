"""The paywall for a server in any language.

    client ──request──▶ seller's server ──authorize──▶ here: hold, or an answer to relay
                        does its work   ──complete───▶ here: capture or release
    client ◀──answer with our headers──

The service key lets the seller's server ask; who pays is told by the client's own
headers, which are passed on. What is wrong with the client's request comes back as an
answer to relay, what is wrong with the question itself as an error.
"""

import base64
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import Response

from tallystick.api.answers import (
    ExactJson,
    challenge_answer,
    problem,
    replayed,
)
from tallystick.api.asked import LARGEST_PRICED_BODY_BYTES
from tallystick.api.bodies import Body, body_schema, json_body
from tallystick.api.errors import InvalidRequest
from tallystick.api.identify import GateDep, require_seller
from tallystick.api.passage import running_of
from tallystick.api.priced import UNPRICED_METHODS, admit_asked
from tallystick.api.relayed import (
    HeaderValues,
    Relayed,
    asked_by,
    from_base64,
    header_list,
    units_of,
)
from tallystick.catalog.models import Feature
from tallystick.catalog.quantity import read_quantity
from tallystick.credits.errors import HoldAlreadySettled
from tallystick.credits.models import HoldState
from tallystick.kernel import json
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import MicroCredits, parse_credits, to_decimal
from tallystick.metering.charges import Charge
from tallystick.paywall.admissions import open_admission, seal_admission
from tallystick.paywall.answer import NO_STORE, Answer
from tallystick.paywall.finish import (
    finish_again,
    finish_failed,
    finish_served,
    heartbeat,
    is_answered,
)
from tallystick.paywall.gate import Gate
from tallystick.paywall.receipt import receipt_headers
from tallystick.paywall.verdicts import Replay, Serve

_LARGEST_BYTES = 2 * LARGEST_PRICED_BODY_BYTES
"""Room for the largest priced body as base64, and headers."""
_OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "date", "keep-alive", "transfer-encoding"}
)
router = APIRouter(
    prefix="/api/paywall", tags=["paywall"], dependencies=[Depends(require_seller)]
)


class AdmissionRequest(Body):
    """An admission, as ``authorize`` gave it."""

    admission: str


class GivenAnswer(Body):
    """What the seller's server answers its client."""

    status: Annotated[int, Field(ge=100, le=599)]
    headers: HeaderValues = Field(default_factory=dict)
    body_base64: str = ""


class Completion(AdmissionRequest):
    """How the work ended.

    ``amount`` is what to charge in credits, at most what is held; all of it unless
    set. With ``answer`` a copy of the same request gets the same answer again; leave
    it out for a stream, or for more than 64 KiB. An answer of status 400 or above is
    a failure and costs nothing, unless ``amount`` says what it costs.
    """

    outcome: Literal["served", "failed"]
    amount: Decimal | None = None
    answer: GivenAnswer | None = None


@router.post("/authorize", openapi_extra=body_schema(Relayed))
async def authorize(
    request: Request,
    gate: GateDep,
    relayed: Annotated[Relayed, Depends(json_body(Relayed, _LARGEST_BYTES))],
) -> Response:
    """May this request be served? Its price is held, or there is an answer to relay."""
    feature = gate.catalog().feature(relayed.feature)
    asked = asked_by(gate, relayed)
    if asked.method in UNPRICED_METHODS:
        return _to_relay(_about(feature, asked.method))
    try:
        units = units_of(feature, relayed)
        verdict = await admit_asked(
            running_of(request), asked, feature, units, may_be_foreign=True
        )
    except TallystickError as refusal:
        return _to_relay(problem(refusal, gate.api_url))
    if isinstance(verdict, Serve):
        return _to_serve(gate, verdict, read_quantity(feature, units))
    if isinstance(verdict, Replay):
        return _to_relay(replayed(verdict.answer))
    return _to_relay(challenge_answer(verdict, gate.api_url))


@router.post("/complete", openapi_extra=body_schema(Completion))
async def complete(
    gate: GateDep,
    done: Annotated[Completion, Depends(json_body(Completion, _LARGEST_BYTES))],
) -> Response:
    """Charge what was served, or give back what failed; the same again if repeated."""
    serve = open_admission(gate.seal, done.admission)
    charged = await _complete(gate, serve, done)
    document = {
        "headers": receipt_headers(serve, charged),
        "charged": to_decimal(charged.deducted),
        "remaining": to_decimal(charged.balance_after) if serve.usage else None,
    }
    return ExactJson(document, headers=NO_STORE)


@router.post("/extend", openapi_extra=body_schema(AdmissionRequest))
async def extend(
    gate: GateDep,
    running: Annotated[AdmissionRequest, Depends(json_body(AdmissionRequest))],
) -> Response:
    """The work takes longer: keep the credits held for another while."""
    serve = open_admission(gate.seal, running.admission)
    await heartbeat(gate, serve)
    return ExactJson({"expires_in_seconds": gate.hold_seconds}, headers=NO_STORE)


def _about(feature: Feature, method: str) -> Response:
    """The answer to a question about a route, which is free: so no work may answer it.

    OPTIONS is told the methods (RFC 9110, 9.3.7). HEAD is none of them, because the
    headers of a paid answer are a part of it.
    """
    status = HTTPStatus.NO_CONTENT
    if method == "HEAD":
        status = HTTPStatus.METHOD_NOT_ALLOWED
    allowed = ", ".join(sorted({*feature.methods, "OPTIONS"}))
    return Response(None, status, {**NO_STORE, "Allow": allowed})


def _to_serve(gate: Gate, serve: Serve, quantity: Decimal) -> Response:
    hold_id, usage = serve.hold_id, serve.usage
    document = {
        "verdict": "serve",
        "admission": seal_admission(gate.seal, serve),
        "hold": None if hold_id is None else encode_id("hld", hold_id),
        "customer": None if usage is None else encode_id("cus", usage.customer_id),
        "quantity": quantity,
        "price": to_decimal(serve.price),
        "expires_in_seconds": None if hold_id is None else gate.hold_seconds,
    }
    return ExactJson(document, headers=NO_STORE)


def _to_relay(response: Response) -> Response:
    """``body_base64`` is what to send; ``body`` is the same to look at, if it is JSON."""
    headers: dict[str, Any] = {}
    for name, value in response.headers.items():
        if name != "content-length":
            headers.setdefault(name, []).append(value)
    body = bytes(response.body)
    document = {
        "verdict": "answer",
        "status": response.status_code,
        "headers": {
            name: values[0] if len(values) == 1 else values
            for name, values in headers.items()
        },
        "body_base64": base64.b64encode(body).decode(),
    }
    if "json" in response.headers.get("content-type", ""):
        document["body"] = json.loads(body)
    return ExactJson(document, headers=NO_STORE)


async def _complete(gate: Gate, serve: Serve, done: Completion) -> Charge:
    amount, answer = _amount(done), _answer(done)
    if done.outcome == "failed" or _is_free(amount, answer):
        return await finish_failed(gate, serve)
    try:
        return await finish_served(gate, serve, answer, amount=amount)
    except HoldAlreadySettled as settled:
        if settled.members["state"] != HoldState.CAPTURED:
            raise
        return await finish_again(gate, serve, amount=amount)


def _is_free(amount: MicroCredits | None, answer: Answer | None) -> bool:
    if amount is not None:
        return amount == 0
    return answer is not None and not is_answered(answer.http_status)


def _amount(done: Completion) -> MicroCredits | None:
    if done.amount is None:
        return None
    amount = parse_credits(done.amount)
    if amount < 0:
        raise InvalidRequest("the amount is below zero", field="amount")
    return amount


def _answer(done: Completion) -> Answer | None:
    given = done.answer
    if given is None:
        return None
    body = from_base64(given.body_base64, "answer.body_base64")
    headers = [
        (name, value)
        for name, value in header_list(given.headers)
        if name.lower() not in _OF_THE_CONNECTION
    ]
    return Answer(given.status, headers, body)
