"""A sign-in works once: in one process and its successor, and over two at a time."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tests.api.test_sign_in import offer_of, signed
from tests.postgres import PostgresServer
from tests.processes import ServerProcess, serving
from tests.test_cli import settings_for

CREDITS = "/api/credits"
COPIES = 40
"""Of each sign-in, to each process, all at once."""


async def codes_of(
    servers: list[ServerProcess], headers: dict[str, str], copies: int
) -> Counter[str]:
    """How often the same sign-in got which answer."""
    found: Counter[str] = Counter()
    limits = httpx.Limits(max_connections=COPIES * len(servers))
    async with httpx.AsyncClient(timeout=60, limits=limits) as http:
        urls = [one.url + CREDITS for one in servers for _ in range(copies)]
        answers = await asyncio.gather(
            *(http.get(url, headers=headers) for url in urls)
        )
    for answer in answers:
        is_in = answer.status_code == 200
        found["in" if is_in else answer.json()["code"]] += 1
    return found


async def sign_in(at: ServerProcess, wallet: LocalAccount) -> dict[str, str]:
    async with httpx.AsyncClient(base_url=at.url) as http:
        return signed(wallet, await offer_of(http, CREDITS))


@pytest.mark.parametrize("number", [1, 2], ids=["one process", "two processes"])
async def test_of_copies_at_once_over_processes_one_gets_in(
    punctual: LocalChain, postgres: PostgresServer, tmp_path: Path, number: int
) -> None:
    """On PostgreSQL, where a second process knows nothing but the database."""
    url = postgres.url(await postgres.create_database())
    common = settings_for(punctual, tmp_path, DATABASE_URL=url)
    async with AsyncExitStack() as stack:
        servers = []
        for _ in range(number):
            port = settings_for(punctual, tmp_path)["PORT"]
            settings = common | {"PORT": port}
            servers.append(
                await stack.enter_async_context(serving(tmp_path, **settings))
            )
        for n in range(5):
            headers = await sign_in(servers[n % number], Account.create())
            found = await codes_of(servers, headers, COPIES)
            assert found == {"in": 1, "sign_in_replayed": COPIES * number - 1}


async def test_a_sign_in_is_used_up_for_the_next_process_as_well(
    punctual: LocalChain, tmp_path: Path
) -> None:
    """On SQLite, where one process follows the other, after a kill."""
    settings = settings_for(punctual, tmp_path)
    wallet = Account.create()
    async with serving(tmp_path, **settings) as server:
        used = await sign_in(server, wallet)
        unused = await sign_in(server, wallet)
        found = await codes_of([server], used, COPIES)
        assert found == {"in": 1, "sign_in_replayed": COPIES - 1}
        await server.end(signal.SIGKILL)
        await server.start()
        assert await codes_of([server], used, 1) == {"sign_in_replayed": 1}
        found = await codes_of([server], unused, COPIES)
        assert found == {"in": 1, "sign_in_replayed": COPIES - 1}
