"""``tallystick worker``: servers without any key, and one process that settles for them."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.chain.local import LocalChain
from tallystick.kernel.db import open_database
from tests.api.payments import funded
from tests.payments.test_kill import (
    Client,
    require_paid_once,
    require_sound,
    settings_for,
)
from tests.postgres import PostgresServer
from tests.processes import Program, ServerProcess, run, serving
from tests.test_cli import require_refusal

NOBODY = "no worker is running"
_SECONDS = 40


@contextlib.asynccontextmanager
async def working(folder: Path, settings: dict[str, str]) -> AsyncIterator[Program]:
    """A worker process that is gone afterwards."""
    program = Program(("worker",), settings, folder)
    try:
        yield program
    finally:
        if program.process.is_alive():
            await program.end(signal.SIGKILL)


def without_keys(settings: dict[str, str]) -> dict[str, str]:
    kept = {name: one for name, one in settings.items() if name != "RELAYER_KEYS"}
    return kept | {"RUN_WORKERS": "false"}


async def readiness(http: httpx.AsyncClient, server: ServerProcess) -> Any:
    return (await http.get(f"{server.url}/readyz")).json()


async def until_told(http: httpx.AsyncClient, server: ServerProcess, why: str) -> None:
    async with asyncio.timeout(_SECONDS):
        while why not in (await readiness(http, server)).get("reason", ""):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.2)


@pytest.fixture
async def settings(
    slow_chain: LocalChain, postgres: PostgresServer, tmp_path: Path
) -> dict[str, str]:
    url = postgres.url(await postgres.create_database())
    made = settings_for(url, slow_chain)
    migrated = await run("migrate", cwd=tmp_path, **made)
    assert migrated.code == 0, migrated.said
    return made


async def test_a_worker_settles_what_servers_without_keys_take(
    slow_chain: LocalChain, settings: dict[str, str], tmp_path: Path
) -> None:
    bare = without_keys(settings)
    async with (
        httpx.AsyncClient(timeout=40) as http,
        working(tmp_path, settings) as worker,
        serving(tmp_path, **bare) as server,
    ):
        assert (await readiness(http, server))["takes_payments"]
        payer = Client(await funded(slow_chain), [server.url])
        await payer.buy(http)
        await worker.end(signal.SIGKILL)
        bought = asyncio.create_task(payer.buy(http))
        await until_told(http, server, NOBODY)
        async with working(tmp_path, settings) as next_worker:
            await asyncio.wait_for(bought, _SECONDS)
            late = await payer.prepare(http)
            ended = await next_worker.end(signal.SIGTERM)
            assert ended.code == 0, ended.said
        # It has said so, and nobody waits for its silence to tell.
        await asyncio.sleep(2.5)
        assert NOBODY in (await readiness(http, server))["reason"]
        refused = await payer.ask(http, server.url, late)
        assert refused.status_code == 503, refused.text
        assert NOBODY in refused.text
    db = open_database(settings["DATABASE_URL"])
    pay_to = bytes.fromhex(settings["PAY_TO"][2:])
    await require_paid_once(slow_chain, db, [payer], pay_to)
    await db.close()
    await require_sound(tmp_path, bare)


async def test_a_worker_tells_servers_that_it_has_no_gas_money(
    slow_chain: LocalChain, settings: dict[str, str], tmp_path: Path
) -> None:
    poor = settings | {"RELAYER_KEYS": "0x" + "11" * 32}
    server = ServerProcess(without_keys(settings), tmp_path)
    async with httpx.AsyncClient(timeout=40) as http, working(tmp_path, poor):
        server.program = Program(("serve",), server.settings, tmp_path)
        try:
            async with asyncio.timeout(_SECONDS):
                while not await _answers(http, server):  # noqa: ASYNC110  # another process
                    await asyncio.sleep(0.1)
            await until_told(http, server, "no relayer has money for gas")
        finally:
            await server.end(signal.SIGKILL)


async def _answers(http: httpx.AsyncClient, server: ServerProcess) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return (await http.get(f"{server.url}/livez")).status_code == 200
    return False


async def test_a_file_has_one_process_and_so_no_worker(
    slow_chain: LocalChain, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/tallystick.sqlite3"
    made = settings_for(url, slow_chain)
    alone = await run("worker", cwd=tmp_path, **made)
    require_refusal(alone, "SQLite", "run no worker")
    bare = await run("serve", cwd=tmp_path, **without_keys(made))
    require_refusal(bare, "RUN_WORKERS is false", "PostgreSQL")
    assert not (tmp_path / "tallystick.sqlite3").exists()


async def test_a_server_without_workers_takes_no_key_and_a_worker_needs_one(
    settings: dict[str, str], tmp_path: Path
) -> None:
    with_keys = await run(
        "serve", cwd=tmp_path, **(settings | {"RUN_WORKERS": "false"})
    )
    require_refusal(with_keys, "take RELAYER_KEYS", "tallystick worker")
    turned_off = await run("worker", cwd=tmp_path, **without_keys(settings))
    require_refusal(turned_off, "unset it for `tallystick worker`")
    keyless = without_keys(settings) | {"RUN_WORKERS": "true"}
    require_refusal(await run("worker", cwd=tmp_path, **keyless), "RELAYER_KEYS")
