"""Is the process alive, and may it get traffic?

The chain is told apart: an RPC outage must not take the spending of credits that are
already there out of rotation.
"""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.identify import GateDep
from tallystick.api.obligations import merchant_figures, payback_figures
from tallystick.api.passage import running_of
from tallystick.chain.errors import RpcUnavailable
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.log import get_logger
from tallystick.kernel.money import USDC_SCALE, to_decimal
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.health import Health, health
from tallystick.payments.purchase import probe
from tallystick.payments.rail import Rail
from tallystick.paywall.answer import NO_STORE
from tallystick.paywall.gate import Gate
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)
router = APIRouter(tags=["operation"])


@router.get("/livez")
async def livez() -> Response:
    """The process answers."""
    return ExactJson({"alive": True})


@router.get("/readyz")
async def readyz(request: Request, gate: GateDep) -> Response:
    """The database answers and has room, so credits can be spent.

    Who may read the metrics is also told of paybacks and of merchants.
    """
    try:
        async with asyncio.timeout(3):
            await gate.db.check()
    except Exception as error:  # noqa: BLE001  # whatever it is, we are not ready
        said = {"reason": error.detail} if isinstance(error, TallystickError) else {}
        return ExactJson({"ready": False, "database": False} | said, 503)
    document: dict[str, object] = {"ready": True, "database": True}
    # No reason to send no traffic: credits that are there can be spent.
    why = gate.rail.obstacle or gate.rail.silence
    document |= {"takes_payments": why is None} | ({"reason": why} if why else {})
    if why is None and gate.rail.limits:
        document["limited"] = "; ".join(gate.rail.limits)
    if running_of(request).watchers.admit(request):
        document |= await _obligations_now(gate)
    return ExactJson(document, headers=NO_STORE)


async def _obligations_now(gate: Gate) -> dict[str, object]:
    """Nothing where they cannot be told soon: that takes nobody out of rotation."""
    try:
        async with asyncio.timeout(1):
            return obligations(gate.rail, await health(gate.db, gate.rail))
    except Exception:  # noqa: BLE001  # credits can be spent, whatever it is
        _log.exception("figures_not_told")
        return {}


@router.get("/healthz/chain")
async def healthz_chain(request: Request, gate: GateDep) -> Response:
    """Payments can be settled, and books and chain agree; 503 with the reasons if not.

    Who may read the metrics is also told the figures.
    """
    rail = gate.rail
    try:
        head = await (probe(rail) if rail.takes_payments else rail.head())
    except (RpcUnavailable, TopUpsUnavailable) as error:
        unknown = {"chain": False, "code": error.code}
        return await _told(request, gate, unknown, _words(error))
    return await _told(request, gate, {"chain": True, "block": head.number})


def _words(error: RpcUnavailable | TopUpsUnavailable) -> str:
    # The detail of one names a node; that of the other is for everybody.
    is_ours = isinstance(error, TopUpsUnavailable)
    return str(error) if is_ours else "no node of the chain answers"


async def _told(
    request: Request, gate: GateDep, known: dict[str, object], *reasons: str
) -> Response:
    found = await health(gate.db, gate.rail)
    wrong = list(dict.fromkeys([*reasons, *found.reasons]))
    document = {"ok": not wrong, **known, "reasons": wrong}
    if running_of(request).watchers.admit(request):
        document |= figures(found) | obligations(gate.rail, found)
    return ExactJson(document, 503 if wrong else 200, NO_STORE)


def figures(found: Health) -> dict[str, object]:
    """What an operator is told beside the verdict; USDC in dollars."""
    return {
        "head": {"block": found.head_number, "age_seconds": found.head_age_seconds},
        "finalized": {"block": found.final_number, "lag_blocks": found.final_lag},
        "observer": {"block": found.observed_number, "lag_blocks": found.observer_lag},
        "reconciliation": _comparison(found),
        "audits": {
            one.kind: {
                "age_seconds": one.age_seconds,
                "findings": [f"{it.invariant}: {it.detail}" for it in one.findings],
            }
            for one in found.audits
        },
        "pending": {
            one.state: {"count": one.count, "oldest_seconds": one.oldest_seconds}
            for one in found.pending
        },
        "quarantined": found.quarantined,
        "exposure": {
            "usdc": to_decimal(found.exposure, USDC_SCALE),
            "cap_usdc": to_decimal(found.exposure_cap, USDC_SCALE),
        },
        "relayers": {
            checksum_address(address): {
                "wei": str(wei),
                "has_gas": address not in found.without_gas,
            }
            for address, wei in found.relayer_wei.items()
        },
    }


def obligations(rail: Rail, found: Health) -> dict[str, object]:
    """What goes on beside purchases, for an operator."""
    return {
        "paybacks": payback_figures(found.paybacks),
        "merchants": merchant_figures(found.merchants, rail.gas),
    }


def _comparison(found: Health) -> dict[str, object]:
    compared = found.compared
    if compared is None:
        return {"block": None, "age_seconds": found.compared_age_seconds}
    return {
        "block": compared.block_number,
        "age_seconds": found.compared_age_seconds,
        "ledger_usdc": to_decimal(compared.ledger_usdc, USDC_SCALE),
        "chain_usdc": to_decimal(compared.chain_usdc, USDC_SCALE),
        "findings": list(compared.findings),
    }
