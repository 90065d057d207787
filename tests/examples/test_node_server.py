"""The example server that is not Python, with a stock client that pays through it."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest

from tallystick.chain.local import LocalChain
from tallystick.identity.keys import Scope, issue_key
from tallystick.identity.models import KeyKind
from tests.live import Buyer, LiveServer, make_settings, start_server

FOLDER = Path(__file__).parents[2] / "examples" / "node_server"
LONGEST_LINES = 100


@pytest.fixture
async def tallystick(
    sqlite_template: Path, tmp_path: Path, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    path = tmp_path / "tallystick.sqlite3"
    shutil.copy(sqlite_template, path)
    catalog = str(FOLDER / "catalog.toml")
    url = f"sqlite+aiosqlite:///{path}"
    live = await start_server(make_settings(url, chain.url, free_port, catalog=catalog))
    yield live
    if live.is_running:
        assert (await live.audit()).findings == []
        await live.stop()


@pytest.fixture
async def node_server(tallystick: LiveServer) -> AsyncIterator[str]:
    """Where the example listens."""
    gate = tallystick.gate
    key = await gate.db.write(
        lambda session: issue_key(
            session,
            gate.seal,
            KeyKind.SERVICE,
            name="node",
            scopes=frozenset(Scope),
        )
    )
    node = shutil.which("node")
    assert node is not None, "this test needs node"
    environment = os.environ | {
        "TALLYSTICK_URL": tallystick.url,
        "TALLYSTICK_SERVICE_KEY": key.secret,
        "PORT": "0",
    }
    with _started([node, str(FOLDER / "server.mjs")], environment) as output:
        line = await asyncio.to_thread(output.readline)
        yield line.split()[-1]


@contextmanager
def _started(command: list[str], environment: dict[str, str]) -> Iterator[IO[str]]:
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


async def test_a_stock_client_pays_and_spends_at_a_node_server(
    node_server: str, tallystick: LiveServer, buyer: Buyer
) -> None:
    client = buyer.client(node_server)
    remaining = []
    for count in (3, 1, 16):
        answer = await client.get("/fortunes", params={"count": count})
        assert answer.status_code == 200, answer.text
        assert len(answer.json()) == count
        assert answer.headers["cache-control"] == "no-store, private"
        remaining.append(answer.headers["credits-remaining"])
    assert remaining == ["8.5", "8", "0"]
    report = await tallystick.audit()
    assert report.chain is not None
    assert report.chain.chain_usdc == 1_000_000


async def test_a_copy_of_a_call_gets_the_same_fortunes(
    node_server: str, buyer: Buyer
) -> None:
    await buyer.client(node_server).get("/fortunes?count=1")
    async with httpx.AsyncClient(base_url=node_server, timeout=60) as client:
        unpaid = await client.get("/fortunes?count=2")
        paid = await buyer.pay(unpaid.headers)
        first = await client.get("/fortunes?count=2", headers=paid)
        second = await client.get("/fortunes?count=2", headers=paid)
        elsewhere = await client.get("/fortunes?count=3", headers=paid)
    assert first.status_code == 200
    assert second.content == first.content
    assert second.headers["payment-response"] == first.headers["payment-response"]
    assert second.headers["idempotency-replayed"] == "true"
    assert (elsewhere.status_code, elsewhere.json()["code"]) == (
        409,
        "payment_bound_elsewhere",
    )


async def test_what_fails_or_makes_no_sense_costs_nothing(
    node_server: str, tallystick: LiveServer, buyer: Buyer
) -> None:
    client = buyer.client(node_server)
    failed = await client.get("/fortunes?count=13")
    assert failed.status_code == 500
    assert failed.headers["credits-charged"] == "0"
    assert failed.headers["credits-remaining"] == "10"
    assert "payment-response" in failed.headers
    async with httpx.AsyncClient(base_url=node_server, timeout=60) as anybody:
        refused = await anybody.get("/fortunes?count=21")
        assert (refused.status_code, refused.json()["code"]) == (
            422,
            "invalid_quantity",
        )
        assert (await anybody.get("/other")).status_code == 404
        unpaid = await anybody.get("/fortunes?count=1")
        assert unpaid.json()["accepts"][0]["resource"] == f"{node_server}/fortunes"
        await tallystick.stop()
        assert (await anybody.get("/fortunes?count=1")).status_code == 503


async def test_no_way_of_asking_gets_a_fortune_for_nothing(node_server: str) -> None:
    """It asks nothing about a method that it does not sell, and tells no fortune."""
    async with httpx.AsyncClient(base_url=node_server, timeout=60) as anybody:
        for method in ("OPTIONS", "HEAD", "POST", "PUT", "DELETE", "PATCH"):
            answer = await anybody.request(method, "/fortunes?count=5")
            assert (answer.status_code, answer.content) == (405, b""), method
            assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("query", ["count=20&count=1", "count=1&count=20"])
async def test_as_many_fortunes_are_told_as_are_paid(
    node_server: str, buyer: Buyer, query: str
) -> None:
    """Node reads the first of two, Python the last: 20 were told and 1 was paid."""
    client = buyer.client(node_server)
    refused = await client.get(f"/fortunes?{query}")
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    told = await client.get("/fortunes?count=%31")
    assert (len(told.json()), told.headers["credits-charged"]) == (1, "0.5")


def test_the_example_stays_short() -> None:
    assert len((FOLDER / "server.mjs").read_text().splitlines()) <= LONGEST_LINES
