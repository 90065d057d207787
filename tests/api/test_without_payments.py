"""A server that is told to take no payments offers none, and says why."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from tallystick.chain.local import KEYS, LocalChain
from tests.chain.payer import address_of
from tests.live import Buyer, LiveServer, make_settings, start_server
from tests.processes import ServerProcess
from tests.test_cli import settings_for

FEATURE = "/features/ai_analyst?address=0x036CbD53842c5426634e7929541eC2318f3dCF7e"


@pytest.fixture
async def closed_till(
    sqlite_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    settings = make_settings(
        sqlite_url, chain.url, free_port, relayer_keys=(), take_payments=False
    )
    live = await start_server(settings)
    try:
        yield live
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


def require_no_offer(answer: httpx.Response) -> None:
    problem = answer.json()
    assert answer.status_code == 402
    assert "payment-required" not in answer.headers
    assert {"accepts", "x402Version", "packs", "topup_url"} & problem.keys() == set()
    assert "Top-ups are switched off" in problem["next_step"]


async def test_a_402_offers_nothing_and_says_that_top_ups_are_off(
    closed_till: LiveServer,
) -> None:
    async with httpx.AsyncClient(base_url=closed_till.url) as http:
        call = await http.get(FEATURE)
        require_no_offer(call)
        assert call.json()["code"] == "payment_required"
        assert call.json()["required"] == 1
        for body in ({"amount": 5}, {"pack": "pack_5"}):
            require_no_offer(await http.post("/api/credits/add", json=body))
        ready = (await http.get("/readyz")).json()
        assert ready["ready"] is True
        assert ready["takes_payments"] is False
        assert ready["reason"] == "this server takes no payments"
        assert (await http.get("/healthz/chain")).status_code == 200


async def test_a_payment_that_was_signed_for_an_older_offer_is_not_taken(
    sqlite_url: str, chain: LocalChain, free_port: int, buyer: Buyer
) -> None:
    """The operator closed the till in between; nothing is claimed."""
    values: dict[str, Any] = {"secret_key": "s" * 40, "pay_to": "0x" + "c0" * 20}
    opened = await start_server(
        make_settings(sqlite_url, chain.url, free_port, **values)
    )
    async with httpx.AsyncClient(base_url=opened.url) as http:
        offer = await http.get(FEATURE)
        ready = (await http.get("/readyz")).json()
        assert ready["ready"] is ready["database"] is ready["takes_payments"] is True
        assert "reason" not in ready
    paid = await buyer.pay(offer.headers, f"{opened.url}{FEATURE}")
    await opened.stop()
    closed = await start_server(
        make_settings(sqlite_url, chain.url, free_port, take_payments=False, **values)
    )
    try:
        async with httpx.AsyncClient(base_url=closed.url) as http:
            answer = await http.get(FEATURE, headers=paid)
            assert (answer.status_code, answer.json()["code"]) == (
                503,
                "top_ups_unavailable",
            ), answer.text
        assert (await closed.audit()).findings == []
    finally:
        await closed.stop()


async def test_a_relayer_that_needs_ether_is_named_with_the_amount_at_the_start(
    sqlite_url: str, chain: LocalChain, free_port: int
) -> None:
    await chain.give_gas(address_of(KEYS[1]), 10**9)
    with capture_logs() as logs:
        live = await start_server(make_settings(sqlite_url, chain.url, free_port))
        async with httpx.AsyncClient(base_url=live.url) as http:
            ready = (await http.get("/readyz")).json()
        await live.stop()
    assert (ready["takes_payments"], ready["reason"]) == (
        False,
        "no relayer has money for gas",
    )
    told = {line["event"]: line for line in logs}
    assert told["not_taking_payments"]["reason"] == "no relayer has money for gas"
    alarm = told["relayer_without_gas"]
    assert alarm["relayer"] == "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
    assert alarm["has_ether"] == "0.000000001"
    missing = float(alarm["needs_ether"]) - float(alarm["has_ether"])
    assert f"{missing:.9f}" in alarm["next_step"]
    assert "taking_payments" not in told


async def test_the_program_says_that_it_takes_no_payments(
    punctual: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(punctual, tmp_path, RELAYER_KEYS="", TAKE_PAYMENTS="false")
    server = ServerProcess(settings, tmp_path)
    try:
        await server.start()
        for _ in range(100):
            said = server.program.output("err") if server.program else ""
            if "not_taking_payments" in said:
                break
            await asyncio.sleep(0.05)
        assert "not_taking_payments" in said
        assert '"taking_payments"' not in said
    finally:
        if server.program is not None:
            server.program.process.kill()


async def test_relayer_keys_that_a_facilitator_leaves_idle_are_told_at_the_start(
    sqlite_url: str, chain: LocalChain, free_port: int
) -> None:
    told = {}
    for fallback in (False, True):
        settings = make_settings(
            sqlite_url,
            chain.url,
            free_port,
            facilitator_url="http://127.0.0.1:1",
            facilitator_fallback=fallback,
        )
        with capture_logs() as logs:
            live = await start_server(settings)
            await live.stop()
        told[fallback] = [
            one for one in logs if one["event"] == "setting_without_effect"
        ]
    assert told[True] == []
    (warning,) = told[False]
    assert warning["log_level"] == "warning"
    assert warning["detail"].startswith("RELAYER_KEYS settle nothing")
    assert warning["next_step"].startswith("set FACILITATOR_FALLBACK=true")
