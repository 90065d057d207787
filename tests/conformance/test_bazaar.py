"""The extension bazaar: what the SDK's own facilitator reads from our 402."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from x402.extensions.bazaar.facilitator import (
    extract_discovery_info,
    validate_discovery_extension,
    validate_discovery_extension_spec,
)
from x402.schemas.payments import PaymentPayload, PaymentRequirements

from tallystick.chain.local import LocalChain
from tallystick.x402.bazaar import declare_bazaar
from tallystick.x402.strict_json import MAX_HEADER_BYTES
from tests.api.payments import (
    ADDRESS,
    ANALYST,
    ON_SQLITE,
    decode,
    encode,
    funded,
    sign,
)
from tests.live import Buyer, LiveServer, make_settings, start_server

PORTFOLIO = f"/features/portfolio_audit?owner={ADDRESS}&tokens={ADDRESS}"
BODIES: dict[str, Any] = {
    "/features/ai_analyst": {"address": ADDRESS},
    "/features/portfolio_audit": {"owner": ADDRESS, "tokens": [ADDRESS]},
}


@pytest.fixture
async def discoverable(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    live = await start_server(
        make_settings(database_url, chain.url, free_port, declare_bazaar=True)
    )
    try:
        yield live
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


async def offers(live: LiveServer) -> list[dict[str, Any]]:
    """What the 402 of every priced route offers, by each of its methods."""
    async with httpx.AsyncClient(base_url=live.url) as http:
        answers = [await http.get(path) for path in (ANALYST, PORTFOLIO)]
        answers += [await http.post(path, json=BODIES[path]) for path in BODIES]
    assert [one.status_code for one in answers] == [402] * 4
    return [decode(one.headers["PAYMENT-REQUIRED"]) for one in answers]


@ON_SQLITE
async def test_the_sdk_validates_and_reads_every_declaration(
    discoverable: LiveServer, chain: LocalChain
) -> None:
    wallet, methods = await funded(chain), []
    for offer in await offers(discoverable):
        declared = offer["extensions"]["bazaar"]
        for validate in (
            validate_discovery_extension,
            validate_discovery_extension_spec,
        ):
            verdict = validate(declared)
            assert verdict.valid, verdict.errors
        payment = sign(wallet, offer["accepts"][0]).document | {
            "resource": offer["resource"],
            "extensions": offer["extensions"],
        }
        assert len(encode(payment)) < MAX_HEADER_BYTES
        found = extract_discovery_info(
            PaymentPayload.model_validate(payment),
            PaymentRequirements.model_validate(offer["accepts"][0]),
        )
        assert found is not None
        assert found.resource_url == offer["resource"]["url"]
        methods.append(found.method)
        place = "queryParams" if found.method == "GET" else "body"
        told = declared["info"]["input"][place]
        assert told in [
            dict.fromkeys(("address",), "0x" + "11" * 20),
            {"owner": "0x" + "11" * 20, "tokens": ["0x" + "11" * 20]},
        ]
    assert methods == ["GET", "GET", "POST", "POST"]


@ON_SQLITE
async def test_a_stock_client_pays_and_sends_it_all_back(
    discoverable: LiveServer, chain: LocalChain
) -> None:
    async with Buyer(await funded(chain)).client(discoverable) as client:
        for path in (ANALYST, PORTFOLIO):
            assert (await client.get(path)).status_code == 200
        for path, body in BODIES.items():
            assert (await client.post(path, json=body)).status_code == 200


@ON_SQLITE
async def test_nothing_is_declared_unless_the_seller_wants_it(
    server: LiveServer,
) -> None:
    for offer in await offers(server):
        assert "bazaar" not in offer["extensions"]


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT", "PATCH"])
def test_a_declaration_stays_small_and_valid(method: str) -> None:
    """A hundred parameters, or patterns full of brackets: payments must stay readable."""
    many = {f"parameter_{n}": {"type": "string"} for n in range(100)}
    long = {"verse": {"type": "string"}}
    brackets = {"code": {"type": "string", "pattern": "[A-Z]{2}" * 50}}
    for arguments in (many, brackets, long, {}):
        example = dict.fromkeys(arguments, "x" * 3000)
        declared = declare_bazaar(method, arguments, list(arguments), example)["bazaar"]
        assert len(encode(declared)) < MAX_HEADER_BYTES / 3
        assert str(declared).count("{") + str(declared).count("[") <= 40
        assert ("verse" in str(declared)) is (arguments is long), "what fits is told"
        verdict = validate_discovery_extension(declared)
        assert verdict.valid, verdict.errors
        assert validate_discovery_extension_spec(declared).valid


def test_a_method_that_the_extension_lacks_is_not_declared() -> None:
    assert declare_bazaar("TRACE", {}, [], {}) == {}
