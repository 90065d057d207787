"""Which nodes the operator asks is nobody's business; the log tells the operator."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from structlog.testing import capture_logs

from tallystick.chain.fault import ErrorAnswer, FaultProxy
from tallystick.chain.local import LocalChain
from tests.live import Buyer, make_settings, start_server
from tests.processes import run
from tests.test_cli import require_refusal, settings_for

FEATURE = "/features/ai_analyst?address=0x036CbD53842c5426634e7929541eC2318f3dCF7e"
KEY = "0123456789abcdefKEY"


async def told(logs: list[Any]) -> None:
    """Until a worker has logged the node that failed."""
    for _ in range(600):
        if any("node" in line for line in logs):
            return
        await asyncio.sleep(0.05)


async def test_no_answer_names_a_dead_node_and_the_log_does(
    sqlite_url: str, chain: LocalChain, buyer: Buyer, free_port: int
) -> None:
    async with FaultProxy(chain.url) as proxy:
        port = urlsplit(proxy.url).port
        node = f"http://localhost:{port}/v2/{KEY}?apikey={KEY}"
        settings = make_settings(
            sqlite_url, node, free_port, public_url="http://shop.test"
        )
        live = await start_server(settings)
        try:
            async with httpx.AsyncClient(base_url=live.url) as http:
                offer = await http.get(FEATURE)
                paid = await buyer.pay(offer.headers, f"http://shop.test{FEATURE}")
                with capture_logs() as logs:
                    proxy.inject("*", ErrorAnswer(code=429, message="rate limit"))
                    answers = [await http.get(FEATURE, headers=paid)]
                    await proxy.down()
                    answers += [
                        await http.get(FEATURE, headers=paid),
                        await http.get("/healthz/chain"),
                        await http.get("/readyz"),
                    ]
                    failed = [one for one in answers if one.status_code == 503]
                    await told(logs)
        finally:
            await live.stop()
    assert len(failed) == 3
    assert failed[0].json()["code"] == failed[1].json()["code"] == "rpc_unavailable"
    for answer in answers:
        said = answer.text + str(answer.headers)
        for word in ("localhost", str(port), KEY):
            assert word not in said, said
    (name,) = {line["node"] for line in logs if "node" in line}
    assert name == "localhost"
    assert KEY not in str(logs)


async def test_the_command_line_names_the_node_that_does_not_answer(
    punctual: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(punctual, tmp_path)
    await run("migrate", cwd=tmp_path, **settings)
    settings["RPC_URLS"] = f"http://localhost:9/v2/{KEY}"
    database = settings["DATABASE_URL"].removeprefix("sqlite+aiosqlite:///")
    with sqlite3.connect(database) as connection:
        connection.execute(
            "INSERT INTO chain_cursor VALUES (84532, ?, ?, 0, 1, ?, 0, NULL, NULL)",
            (punctual.token, bytes.fromhex(settings["PAY_TO"][2:]), bytes(32)),
        )
    connection.close()
    audit = await run("audit", cwd=tmp_path, **settings)
    require_refusal(audit, "node: localhost", "no answer to eth_chainId")
    assert KEY not in audit.said
