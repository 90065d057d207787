"""A facilitator dies at each step of a merchant's settlement; the next one finds it."""

import asyncio
import contextlib
import secrets
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.evidence import transfers_to
from tallystick.chain.local import ADDRESSES, KEYS, LocalChain
from tallystick.demo.ports import free_port
from tallystick.kernel.crash_points import CrashPoint
from tallystick.x402.keccak import checksum_address
from tests.api.payments import fund, sign
from tests.postgres import PostgresServer
from tests.processes import Program, ServerProcess, run
from tests.workers.test_worker_process import without_keys, working

P = CrashPoint
POINTS = (
    P.MERCHANT_CLAIMED,
    P.MERCHANT_REHEARSED,
    P.SIGNED_UNCOMMITTED,
    P.SIGNED,
    P.SENT,
    P.MERCHANT_MOVE_UNCOMMITTED,
)
_SECONDS = 60


@dataclass
class Scene:
    """A facilitator on a chain of its own, one merchant, and its buyer's payment."""

    chain: LocalChain
    folder: Path
    settings: dict[str, str]
    wallet: LocalAccount
    pay_to: bytes
    key: str
    asked: dict[str, Any]
    relayer: int

    async def settle(self, http: httpx.AsyncClient) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.settings['PORT']}/x402/settle"
        bearer = {"Authorization": f"Bearer {self.key}"}
        answer = await http.post(url, json=self.asked, headers=bearer)
        assert answer.status_code in {200, 503}, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def until_settled(self, http: httpx.AsyncClient) -> dict[str, Any]:
        async with asyncio.timeout(_SECONDS):
            while not (told := await self.settle(http)).get("success"):
                reason = told.get("errorReason", "settlement_pending")
                assert reason == "settlement_pending", told
                await asyncio.sleep(0.05)
        return told

    async def require_settled_once(self, transaction: str) -> None:
        head = await self.chain.chain.block("latest")
        assert head is not None
        (moved,) = await transfers_to(self.chain.chain, self.pay_to, 0, head.number)
        assert f"0x{moved.tx_hash.hex()}" == transaction
        assert await self.chain.chain.nonce(ADDRESSES[self.relayer], "latest") == 1
        audited = await run("audit", cwd=self.folder, **self.settings)
        assert audited.code == 0, audited.said


async def staged(
    chain: LocalChain, folder: Path, relayer: int = 1, **settings: str
) -> Scene:
    wallet, pay_to = Account.create(), Account.create().address
    await fund(chain, wallet)
    made = {
        "RPC_URLS": chain.url,
        "PAY_TO": Account.create().address,
        "RELAYER_KEYS": f"0x{KEYS[relayer].hex()}",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "PORT": str(free_port()),
        "POLL_SECONDS": "0.1",
        "SETTLE_WAIT": "1",
        "ACT_AS_FACILITATOR": "true",
    } | settings
    migrated = await run("migrate", cwd=folder, **made)
    assert migrated.code == 0, migrated.said
    added = await run("merchant", "add", pay_to, cwd=folder, **made)
    assert added.code == 0, added.said
    entry = {
        "scheme": "exact",
        "network": "eip155:84532",
        "asset": checksum_address(chain.token),
        "amount": "10000",
        "payTo": pay_to,
        "maxTimeoutSeconds": 300,
        "extra": {"name": "USDC", "version": "2"},
    }
    asked = {
        "x402Version": 2,
        "paymentPayload": sign(wallet, entry).document,
        "paymentRequirements": entry,
    }
    address = bytes.fromhex(pay_to[2:])
    key = added.out.strip()
    return Scene(chain, folder, made, wallet, address, key, asked, relayer)


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as http:
        yield http


async def die(scene: Scene, point: CrashPoint) -> None:
    server = ServerProcess(scene.settings | {"CRASH_AT": point}, scene.folder)
    await server.start()
    assert server.program is not None
    try:
        async with client() as http, asyncio.timeout(_SECONDS):
            while server.program.process.is_alive():
                with contextlib.suppress(httpx.TransportError):
                    await scene.settle(http)
                await asyncio.sleep(0.05)
        ended = await server.program.end()
    finally:
        await server.end(signal.SIGKILL)
    assert f"crash point {point}\n" in ended.err, ended.said


@pytest.mark.parametrize("points", [POINTS[:3], POINTS[3:]], ids=["early", "late"])
async def test_a_facilitator_that_dies_there_settles_once_all_the_same(
    chain: LocalChain, tmp_path: Path, points: tuple[CrashPoint, ...]
) -> None:
    """Each mostly waits, so some are done at once, each with a key of its own."""

    async def go_through(scene: Scene, point: CrashPoint) -> None:
        await die(scene, point)
        server = ServerProcess(scene.settings, scene.folder)
        await server.start()
        try:
            async with client() as http:
                told = await scene.until_settled(http)
                assert await scene.settle(http) == told
        finally:
            await server.end(signal.SIGTERM)
        await scene.require_settled_once(told["transaction"])

    scenes = []
    for relayer, point in enumerate(points, 1):
        folder = tmp_path / point
        folder.mkdir()
        url = f"sqlite+aiosqlite:///{folder}/books.sqlite3"
        # Not at once: to start the first program takes long, and nobody goes on.
        scenes.append(await staged(chain, folder, relayer, DATABASE_URL=url))
    async with asyncio.TaskGroup() as group:
        for scene, point in zip(scenes, points, strict=True):
            group.create_task(go_through(scene, point))


@pytest.fixture
async def elsewhere(
    chain: LocalChain, postgres: PostgresServer, tmp_path: Path
) -> Scene:
    url = postgres.url(await postgres.create_database())
    return await staged(chain, tmp_path, DATABASE_URL=url)


async def test_a_server_without_keys_answers_pending_until_a_worker_settles(
    elsewhere: Scene, tmp_path: Path
) -> None:
    """Its worker dies with the settlement stored and nothing signed; the next signs."""
    scene, bare = elsewhere, without_keys(elsewhere.settings)
    crashing = scene.settings | {"CRASH_AT": P.SIGNED_UNCOMMITTED}
    async with client() as http:
        server = ServerProcess(bare, tmp_path)
        async with working(tmp_path, crashing) as first:
            await server.start()
            try:
                told = await scene.settle(http)
                assert told["errorReason"] == "settlement_pending", told
                assert (await first.end()).code == -signal.SIGKILL
                async with working(tmp_path, scene.settings):
                    told = await scene.until_settled(http)
                    signers = await _signers(http, scene)
            finally:
                await server.end(signal.SIGTERM)
    assert signers == [checksum_address(ADDRESSES[1])]
    await scene.require_settled_once(told["transaction"])


async def _signers(http: httpx.AsyncClient, scene: Scene) -> list[str]:
    url = f"http://127.0.0.1:{scene.settings['PORT']}/x402/supported"
    bearer = {"Authorization": f"Bearer {scene.key}"}
    told = (await http.get(url, headers=bearer)).json()
    signers: list[str] = told["signers"]["eip155:*"]
    return signers


async def test_merchants_are_added_shown_and_ended_by_commands(
    chain: LocalChain, tmp_path: Path
) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/books.sqlite3"
    scene = await staged(chain, tmp_path, DATABASE_URL=url)

    async def merchant(*arguments: str) -> Any:
        return await run("merchant", *arguments, cwd=tmp_path, **scene.settings)

    listed = await merchant("list")
    assert checksum_address(scene.pay_to) in listed.out
    assert "active  merchant" in listed.out
    assert scene.key not in listed.said
    for wrong in ("0x12", scene.settings["PAY_TO"], "0x" + "00" * 20):
        refused = await merchant("add", wrong)
        assert refused.code == 2, refused.said
    shown = listed.out.split()[0]
    assert (await merchant("revoke", shown)).code == 0
    again = await merchant("revoke", shown)
    assert again.code == 2
    assert "tallystick merchant list" in again.err
    assert "revoked" in (await merchant("list")).out


async def test_a_facilitator_needs_a_relayer(chain: LocalChain, tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/books.sqlite3"
    scene = await staged(chain, tmp_path, DATABASE_URL=url)
    bare = {**scene.settings, "RELAYER_KEYS": "", "TAKE_PAYMENTS": "false"}
    refused = await Program(("serve",), bare, tmp_path).end()
    assert refused.code == 2
    assert "ACT_AS_FACILITATOR needs RELAYER_KEYS" in refused.err
