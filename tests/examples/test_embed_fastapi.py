"""The example app, served as its README says, with a stock client that pays."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from eth_account import Account

from tallystick.chain.local import KEYS, LocalChain
from tallystick.config import new_secret_key
from tests.live import Buyer

FOLDER = Path(__file__).parents[2] / "examples" / "embed_fastapi"
# The seller's own machine has other settings in its environment than ours.
FOREIGN = "TALLYSTICK_"


@pytest.fixture
async def desk(
    sqlite_template: Path, tmp_path: Path, chain: LocalChain, free_port: int
) -> AsyncIterator[str]:
    """Where the example listens."""
    shutil.copy(sqlite_template, tmp_path / "desk.sqlite3")
    url = f"http://127.0.0.1:{free_port}"
    ours = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'desk.sqlite3'}",
        "RPC_URLS": chain.url,
        "PAY_TO": Account.create().address,
        "RELAYER_KEYS": f"0x{KEYS[1].hex()}",
        "SECRET_KEY": new_secret_key(),
        "PUBLIC_URL": url,
    }
    plain = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    environment = plain | {f"TALLYSTICK_{k}": v for k, v in ours.items()}
    with _served(free_port, environment, tmp_path):
        await _until_ready(url)
        yield url


@contextmanager
def _served(port: int, environment: dict[str, str], folder: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "uvicorn", "app:app", "--app-dir", str(FOLDER)]
    command += ["--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, env=environment, cwd=folder) as process:
        try:
            yield
        finally:
            process.terminate()


async def _until_ready(url: str) -> None:
    async with httpx.AsyncClient() as client:
        for _ in range(200):
            try:
                if (await client.get(f"{url}/healthz/chain")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)
    raise AssertionError("the example did not start")


async def test_a_stock_client_pays_at_the_sellers_own_routes(
    desk: str, buyer: Buyer
) -> None:
    client = buyer.client(desk)
    assert (await client.get("/")).json()["prices"] == "/api/catalog"
    answer = await client.get("/analysis", params={"text": "pay and pay again"})
    assert answer.json() == {"words": 4, "most_common": "pay"}
    assert answer.headers["credits-remaining"] == "9"
    proofs = await client.post("/proofs", json={"pages": ["one ", " two", "three"]})
    assert proofs.json() == ["One", "Two", "Three"]
    assert proofs.headers["credits-charged"] == "1.5"
    async with client.stream("GET", "/story", params={"hero": "Ada"}) as story:
        lines = [line async for line in story.aiter_lines()]
    assert lines == ["Ada was split in two.", "Both halves matched.", "The end."]
    assert story.headers["credits-remaining"] == "5.5"


async def test_a_wrong_call_and_one_without_payment_are_told_so(desk: str) -> None:
    async with httpx.AsyncClient(base_url=desk) as anybody:
        assert (await anybody.get("/analysis")).status_code == 422
        assert (await anybody.post("/proofs", json={"pages": 3})).status_code == 422
        assert (await anybody.get("/analysis?text=x")).status_code == 402
        empty = await anybody.post("/proofs", json={"pages": []})
        assert (empty.status_code, empty.json()["code"]) == (422, "invalid_quantity")
        told = (await anybody.get("/openapi.json")).json()["paths"]
    assert told["/proofs"]["post"]["x-tallystick-price"]["credits"] == "0.5"
    assert "/api/paywall/authorize" in told
