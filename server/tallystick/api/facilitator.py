"""This server as an x402 facilitator, for other sellers that its operator knows.

    buyer ──payment──▶ merchant's server ──verify, settle──▶ here ──▶ the chain

The wire is section 7 of the x402 specification: what becomes of a payment is told in an
HTTP 200, because stock servers take every other status for a failure of ours. Only who
asks wrongly, or is not known, gets a problem.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.bodies import bounded_body, read_json
from tallystick.api.errors import TwoIdentities
from tallystick.api.identify import GateDep
from tallystick.api.passage import gate_of, running_of
from tallystick.payments.elsewhere import signing_addresses
from tallystick.payments.merchants.checks import check_asked
from tallystick.payments.merchants.claims import (
    claim_settlement,
    newest_hash,
    refusal_of,
    wait_for_settlement,
)
from tallystick.payments.merchants.errors import MerchantKeyRequired
from tallystick.payments.merchants.registry import (
    ProvenMerchant,
    place_for,
    verify_merchant,
)
from tallystick.payments.models.merchants import PENDING_SETTLEMENTS, SETTLED_STATES
from tallystick.paywall.answer import NO_STORE
from tallystick.paywall.gate import Gate
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.settle_asked import (
    Asked,
    not_settled,
    not_verified,
    pending,
    read_asked,
    settled,
    supported_answer,
    verified,
)

router = APIRouter(prefix="/x402", tags=["facilitator"])
_LARGEST_BYTES = 32 * 1024
"""A payment has at most 8 KiB in a header; its terms come twice, and the resource."""
_MEMBERS = {
    "x402Version": {"type": "integer", "enum": [1, 2]},
    "paymentPayload": {"type": "object"},
    "paymentRequirements": {"type": "object"},
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": _MEMBERS,
                    "required": list(_MEMBERS),
                }
            }
        },
    }
}


async def _require_merchant(request: Request) -> ProvenMerchant:
    keys = []
    for text in request.headers.getlist("authorization"):
        scheme, _, token = text.partition(" ")
        if scheme.lower() == "bearer":
            keys.append(token.strip())
    if not keys:
        raise MerchantKeyRequired
    if len(keys) > 1:
        raise TwoIdentities("the request carries more than one key")
    gate = gate_of(request)
    async with gate.db.read() as session:
        return await verify_merchant(session, gate.seal, keys[0])


MerchantDep = Annotated[ProvenMerchant, Depends(_require_merchant)]


@router.get("/supported")
async def supported(gate: GateDep, _merchant: MerchantDep) -> Response:
    """What is settled here: exact payments in USDC, in both versions of x402."""
    signers = await signing_addresses(gate.db, gate.rail)
    return _answer(supported_answer(gate.rail.network, signers))


@router.post("/verify", openapi_extra=_BODY)
async def verify(request: Request, gate: GateDep, merchant: MerchantDep) -> Response:
    """Whether a payment to the merchant could be settled now; nothing is stored."""
    document = read_json(await bounded_body(request, _LARGEST_BYTES))
    asked = None
    try:
        asked = read_asked(document)
        with place_for(gate.rail, merchant):
            await check_asked(gate.db, gate.rail, merchant, asked)
    except PaymentRejected as refused:
        return _answer(not_verified(refused, asked.payer if asked else None))
    return _answer(verified(asked.payer))


@router.post("/settle", openapi_extra=_BODY)
async def settle(request: Request, gate: GateDep, merchant: MerchantDep) -> Response:
    """Settle a payment to the merchant, once, and tell what became of it.

    The same payment may be sent again, and is answered by what the chain shows.
    """
    document = read_json(await bounded_body(request, _LARGEST_BYTES))
    asked = None
    try:
        asked = read_asked(document)
        wait_ms = running_of(request).settle_wait_ms
        with place_for(gate.rail, merchant):
            return _answer(await _outcome(gate, merchant, asked, wait_ms))
    except PaymentRejected as refused:
        network = asked.network if asked else gate.rail.network
        payer = asked.payer if asked else None
        return _answer(not_settled(refused, network, payer))


async def _outcome(
    gate: Gate, merchant: ProvenMerchant, asked: Asked, wait_ms: int
) -> dict[str, Any]:
    begun = await claim_settlement(gate.db, gate.rail, merchant, asked)
    one = await wait_for_settlement(gate.db, gate.rail, begun.id, wait_ms)
    if one.state in SETTLED_STATES:
        assert one.tx_hash is not None
        return settled(asked, one.tx_hash)
    if one.state in PENDING_SETTLEMENTS:
        return pending(asked, await newest_hash(gate.db, one.id))
    raise refusal_of(one)


def _answer(document: dict[str, Any]) -> Response:
    return ExactJson(document, headers=NO_STORE)
