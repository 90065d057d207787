"""The drill: a server loses its database and goes on with its backup on another."""

import asyncio
import gzip
import json
import secrets
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tallystick.chain.local import LocalChain
from tests.api.payments import ANALYST, funded
from tests.live import Buyer
from tests.postgres import PostgresServer
from tests.processes import run, serving
from tests.test_cli import require_refusal, settings_for
from tests.test_service_keys import status


@pytest.fixture
def new_url(postgres: PostgresServer) -> Iterator[str]:
    name = asyncio.run(postgres.create_database(template="template0"))
    yield postgres.url(name)
    asyncio.run(postgres.drop_database(name))


async def buy_with(buyer: Buyer, url: str) -> httpx.Response:
    async with buyer.client(url) as client:
        return await client.get(ANALYST)


async def test_a_server_moves_from_sqlite_to_postgresql_by_its_backup(
    punctual: LocalChain, tmp_path: Path, new_url: str
) -> None:
    file = tmp_path / "books.backup"
    before = settings_for(punctual, tmp_path, SECRET_KEY=secrets.token_hex(32))
    buyer = Buyer(await funded(punctual, 3))
    async with serving(tmp_path, **before) as old:
        bought = await buy_with(buyer, old.url)
        assert bought.status_code == 200, bought.text
        assert bought.headers["credits-remaining"] == "9"
        key = (await run("service-key", cwd=tmp_path, **before)).out.strip()
        taken = await run("backup", str(file), cwd=tmp_path, **before)
        assert taken.code == 0, taken.said
        assert f"are in {file}" in taken.out
        again = await run("backup", str(file), cwd=tmp_path, **before)
        require_refusal(again, "exists")
        assert (await old.end(signal.SIGKILL)).code == -signal.SIGKILL
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = gzip.decompress(file.read_bytes()).decode()
    for hidden in (before["SECRET_KEY"], before["RELAYER_KEYS"][2:], key):
        assert hidden not in written

    after = before | {"DATABASE_URL": new_url}
    restored = await run("restore", str(file), cwd=tmp_path, **after)
    assert restored.code == 0, restored.said
    assert "Everything adds up" in restored.out
    require_refusal(await run("restore", str(file), cwd=tmp_path, **after), "has rows")
    async with serving(tmp_path, **after) as new:
        answer = await buy_with(buyer, new.url)
        assert answer.status_code == 200, answer.text
        assert answer.headers["credits-remaining"] == "8", "the wallet's credits came"
        assert await status(new, key) == 422, "the seller's key is known"
        audit = await run("audit", "--json", cwd=tmp_path, **after)
        assert json.loads(audit.out)["ok"], audit.out
