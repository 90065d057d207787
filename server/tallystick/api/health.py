"""Is the process alive, and may it get traffic?

The chain is told apart: an RPC outage must not take the spending of credits that are
already there out of rotation.
"""

import asyncio

from fastapi import APIRouter
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.identify import GateDep
from tallystick.chain.errors import RpcUnavailable
from tallystick.kernel.db import query
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.purchase import probe

router = APIRouter(tags=["operation"])


@router.get("/livez")
async def livez() -> Response:
    """The process answers."""
    return ExactJson({"alive": True})


@router.get("/readyz")
async def readyz(gate: GateDep) -> Response:
    """The database answers, so credits can be spent."""
    try:
        async with asyncio.timeout(3), gate.db.read() as session:
            await query(session, "SELECT boots FROM installation")
    except Exception:  # noqa: BLE001  # whatever it is, we are not ready
        return ExactJson({"ready": False, "database": False}, 503)
    document: dict[str, object] = {"ready": True, "database": True}
    # No reason to send no traffic: credits that are there can be spent.
    why = gate.rail.obstacle or gate.rail.silence
    document |= {"takes_payments": why is None} | ({"reason": why} if why else {})
    return ExactJson(document)


@router.get("/healthz/chain")
async def healthz_chain(gate: GateDep) -> Response:
    """The chain answers, so top-ups can be settled, if they are taken at all."""
    try:
        rail = gate.rail
        head = await (probe(rail) if rail.takes_payments else rail.head())
    except (RpcUnavailable, TopUpsUnavailable) as error:
        return ExactJson({"chain": False, "code": error.code}, 503)
    return ExactJson({"chain": True, "block": head.number})
