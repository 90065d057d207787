"""The operator sees how payments are doing; nobody else sees a figure."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from tallystick.chain.fault import FaultProxy
from tallystick.chain.local import KEYS, LocalChain
from tallystick.payments.gas.costs import settle_gas
from tallystick.workers.auditing import Auditor
from tallystick.workers.reconciling import compare
from tests.api.payments import ON_SQLITE
from tests.chain.payer import address_of, transfer_call
from tests.house import DOLLAR
from tests.live import Buyer, LiveServer, make_settings, start_server
from tests.payments.test_audit import tamper

CALL = "/features/ai_analyst?address=0x" + "11" * 20
TOKEN = "watch-over-the-money"
FIGURES = {"head", "finalized", "observer", "reconciliation", "pending"}


@pytest.fixture
async def http(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


async def figures(http: httpx.AsyncClient, **headers: str) -> dict[str, float]:
    """The metrics by name, with their labels' values behind it."""
    answer = await http.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.headers["cache-control"] == "no-store, private"
    return {
        " ".join([one.name, *one.labels.values()]): one.value
        for family in text_string_to_metric_families(answer.text)
        for one in family.samples
    }


@ON_SQLITE
async def test_the_operator_is_told_all_figures(
    server: LiveServer, http: httpx.AsyncClient, buyer: Buyer, chain: LocalChain
) -> None:
    assert (await buyer.client(server).get(CALL)).status_code == 200
    await chain.mine(4)
    await server.audit()
    gate = server.gate
    await compare(gate.db, gate.rail)
    answer = await http.get("/healthz/chain")
    told = answer.json()
    assert (answer.status_code, told["ok"], told["reasons"]) == (200, True, [])
    assert set(told) > FIGURES
    head = await chain.chain.block("latest")
    assert head is not None
    assert told["block"] == told["head"]["block"] == head.number
    assert told["observer"] == {"block": head.number, "lag_blocks": 0}
    assert told["reconciliation"]["block"] == head.number - 2
    assert told["reconciliation"]["ledger_usdc"] == 1
    assert told["reconciliation"]["findings"] == []
    assert told["pending"] == {}
    (relayer,) = told["relayers"].values()
    assert relayer["has_gas"] is True
    assert int(relayer["wei"]) > 0


@ON_SQLITE
async def test_the_metrics_tell_what_happened(
    server: LiveServer, http: httpx.AsyncClient, buyer: Buyer, chain: LocalChain
) -> None:
    assert (await buyer.client(server).get(CALL)).status_code == 200
    before = await figures(http)
    assert before["tallystick_topup_transitions_total claimed signed"] == 1
    arrived = [
        before.get(f"tallystick_topup_transitions_total {one} credited", 0)
        for one in ("signed", "seen on chain")
    ]
    assert sum(arrived) == 1
    assert before["tallystick_exposure_atomic_usdc"] == DOLLAR
    assert before["tallystick_exposure_cap_atomic_usdc all"] == 1_000 * DOLLAR
    assert before["tallystick_exposure_cap_atomic_usdc customer"] == 100 * DOLLAR
    assert before["tallystick_topups_pending_oldest_seconds"] == 0
    assert before["tallystick_takes_payments"] == 1
    assert before["tallystick_charge_queue_depth"] == 0
    relayer = f"0x{address_of(KEYS[1]).hex()}"
    balances = {
        name.lower(): value for name, value in before.items() if "balance_wei" in name
    }
    assert balances[f"tallystick_relayer_balance_wei {relayer}"] > 10**17
    await chain.mine(4)
    await server.audit()
    gate = server.gate
    await settle_gas(gate.db, gate.rail)
    await compare(gate.db, gate.rail)
    after = await figures(http)
    gas = {name.lower(): value for name, value in after.items() if "_gas_" in name}
    spent = gas[f"tallystick_relayer_gas_spent_wei_total {relayer}"]
    assert 0 < spent < gas["tallystick_relayer_gas_budget_wei"]
    assert gas[f"tallystick_relayer_gas_today_wei {relayer}"] == spent
    assert gas[f"tallystick_relayer_gas_wasted_wei_total {relayer}"] == 0
    assert after["tallystick_reconciliation_difference_atomic_usdc"] == 0
    assert after["tallystick_reconciliation_findings"] == 0
    assert after["tallystick_treasury_atomic_usdc ledger"] == DOLLAR
    assert after["tallystick_observer_lag_blocks"] == 0


async def test_a_unit_too_much_is_an_alarm_everywhere(
    sqlite_url: str, chain: LocalChain, buyer: Buyer, free_port: int
) -> None:
    live = await start_server(make_settings(sqlite_url, chain.url, free_port))
    try:
        gate = live.gate
        call = transfer_call(gate.rail.pay_to, DOLLAR)
        await chain.send(buyer.address, chain.token, call)
        await chain.mine(4)
        assert (await live.audit()).findings == []
        change(sqlite_url, "UPDATE chain_transfer SET value = value + 1")
        with capture_logs() as logs:
            await compare(gate.db, gate.rail)
        alarms = [one for one in logs if one["event"] == "books_differ"]
        assert len(alarms) == 2
        assert all(one["log_level"] == "error" for one in alarms)
        assert all("0x" in one["detail"] and one["next_step"] for one in alarms)
        async with httpx.AsyncClient(base_url=live.url) as http:
            answer = await http.get("/healthz/chain")
            assert answer.status_code == 503
            assert answer.json()["reasons"] == ["the books and the chain differ"]
            assert len(answer.json()["reconciliation"]["findings"]) == 2
            assert (await figures(http))["tallystick_reconciliation_findings"] == 2
            assert (await http.get("/readyz")).status_code == 200, "spending goes on"
        change(sqlite_url, "UPDATE chain_transfer SET value = value - 1")
        with capture_logs() as logs:
            await compare(gate.db, gate.rail)
        assert [one["event"] for one in logs] == ["books_agree_again"]
    finally:
        await live.stop()


async def test_unsound_books_are_an_alarm_everywhere(
    sqlite_url: str, chain: LocalChain, free_port: int
) -> None:
    live = await start_server(make_settings(sqlite_url, chain.url, free_port))
    try:
        gate = live.gate
        async with httpx.AsyncClient(base_url=live.url) as http:
            await until_audited(http)
            before = await figures(http)
            for kind in ("recent", "whole"):
                assert before[f"tallystick_audit_findings {kind}"] == 0
                assert before[f"tallystick_audit_age_seconds {kind}"] < 60
            change(sqlite_url, "UPDATE installation SET seals = seals + 7")
            await Auditor(gate.db).recent()
            answer = await http.get("/healthz/chain")
            assert answer.status_code == 503
            assert "the books are not sound" in answer.json()["reasons"]
            (finding,) = answer.json()["audits"]["recent"]["findings"]
            assert finding.startswith("I15 each seal continues the one before: seal ")
            assert (await figures(http))["tallystick_audit_findings recent"] == 1
            assert (await http.get("/readyz")).status_code == 200, "spending goes on"
            change(sqlite_url, "UPDATE installation SET seals = seals - 7")
            with capture_logs() as logs:
                await Auditor(gate.db).recent()
            assert "books_sound_again" in [one["event"] for one in logs]
            assert (await http.get("/healthz/chain")).json()["reasons"] == []
            stalled = "UPDATE books_audit SET audited_ms = audited_ms - {} * 1000"
            stalled += " WHERE kind = '{}'"
            change(sqlite_url, stalled.format(601, "recent"))
            (reason,) = (await http.get("/healthz/chain")).json()["reasons"]
            assert reason.startswith("what is new in the books was not audited for 60")
            change(sqlite_url, stalled.format(36 * 3600 + 1, "whole"))
            reasons = (await http.get("/healthz/chain")).json()["reasons"]
            assert [" ".join(one.split()[:6]) for one in reasons] == [
                "what is new in the books",
                "what is in the books was",
            ]
            # A time that lies ahead is no audit that was made, and no age of 0.
            ahead = "UPDATE books_audit SET since_ms = since_ms - 129601 * 1000,"
            ahead += " audited_ms = since_ms + 7200 * 1000 WHERE kind = '{}'"
            for kind in ("recent", "whole"):
                change(sqlite_url, ahead.format(kind))
            answer = (await http.get("/healthz/chain")).json()
            assert answer["reasons"][0].startswith("what is new in the books was not")
            assert answer["reasons"][1].startswith("what is in the books was not")
            assert answer["audits"]["whole"]["age_seconds"] > 129_600
    finally:
        await live.stop()


async def until_audited(http: httpx.AsyncClient) -> None:
    """A server audits all of its books when nobody ever did."""
    async with asyncio.timeout(20):
        while True:
            told = (await http.get("/healthz/chain")).json()["audits"]
            if set(told) == {"recent", "whole"}:
                return
            await asyncio.sleep(0.05)


def change(url: str, sql: str) -> None:
    tamper(Broken(url), sql)  # type: ignore[arg-type]  # all that it needs of a house


class Broken:
    """Somebody's database."""

    is_sound = True

    def __init__(self, url: str) -> None:
        self.database_url = url


async def test_a_stranger_is_told_the_verdict_and_no_figure(
    sqlite_url: str, chain: LocalChain, free_port: int
) -> None:
    """A proxy on the same machine makes everybody look local."""
    settings = make_settings(
        sqlite_url, chain.url, free_port, public_url="https://shop.test"
    )
    live = await start_server(settings)
    try:
        async with httpx.AsyncClient(base_url=live.url) as http:
            told = (await http.get("/healthz/chain")).json()
            refused = await http.get("/metrics")
            assert (refused.status_code, refused.json()["code"]) == (
                403,
                "reserved_for_operators",
            )
        assert set(told) == {"ok", "chain", "block", "reasons"}
    finally:
        await live.stop()


async def test_the_token_opens_and_no_other(
    sqlite_url: str, chain: LocalChain, free_port: int
) -> None:
    settings = make_settings(sqlite_url, chain.url, free_port, metrics_token=TOKEN)
    live = await start_server(settings)
    try:
        async with httpx.AsyncClient(base_url=live.url) as http:
            for given in ("", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN):
                headers = {"Authorization": given} if given else {}
                refused = await http.get("/metrics", headers=headers)
                assert refused.status_code == 403, given
                told = await http.get("/healthz/chain", headers=headers)
                assert not FIGURES & set(told.json())
                assert TOKEN not in refused.text
            assert await figures(http, Authorization=f"Bearer {TOKEN}")
            mine = {"Authorization": f"Bearer {TOKEN}"}
            told = await http.get("/healthz/chain", headers=mine)
            assert set(told.json()) > FIGURES
    finally:
        await live.stop()


async def test_while_no_node_answers_the_figures_are_told_and_no_node_is_named(
    sqlite_url: str, chain: LocalChain, free_port: int
) -> None:
    async with FaultProxy(chain.url) as proxy:
        node = f"{proxy.url}/v2/SECRETSECRET"
        live = await start_server(make_settings(sqlite_url, node, free_port))
        try:
            await proxy.down()
            async with httpx.AsyncClient(base_url=live.url) as http:
                answer = await http.get("/healthz/chain")
                told = await http.get("/metrics")
                assert answer.status_code == 503
                assert answer.json()["reasons"] == ["no node of the chain answers"]
                assert answer.json()["code"] == "rpc_unavailable"
                assert told.status_code == 200
                assert (await http.get("/readyz")).status_code == 200
            for one in (answer, told):
                assert "SECRET" not in one.text
                assert "127.0.0.1" not in one.text
        finally:
            await live.stop()
