"""What is logged of a whole run at DEBUG holds no signature and no key (A39).

The server is the real one, ``tallystick serve`` in a process of its own, because that
is what configures the logs; all that it writes is searched.
"""

import asyncio
import base64
import contextlib
import os
import secrets
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.fault import ANY, DropAfter, ErrorAnswer, FaultProxy
from tallystick.chain.local import KEYS, LocalChain
from tallystick.samples.facilitator import Lie
from tests.api import test_sign_in as siwx
from tests.api.payments import (
    ANALYST,
    NAMES,
    Payment,
    buy,
    encode,
    fund,
    funded,
    offer_of,
    sign,
)
from tests.payments.facilitators import KEY_ID, OnlyWithToken, listening, sample

ADD = "/api/credits/add"
DEDUCT = "/api/credits/deduct"


@dataclass
class Serving:
    """A server process, and the secrets that went through it by name."""

    url: str
    log: Path
    secrets: dict[str, str] = field(default_factory=dict)

    def remember_payment(self, name: str, payment: Payment) -> Payment:
        """A signature, each half of it, and the header as it travels."""
        signature = payment.signature
        self.secrets[f"{name}: signature"] = signature.hex()
        self.secrets[f"{name}: r"] = signature[:32].hex()
        self.secrets[f"{name}: s"] = signature[32:64].hex()
        self.secrets[f"{name}: r as bytes"] = repr(signature[:32])[2:-1]
        self.secrets[f"{name}: r as number"] = str(
            int.from_bytes(signature[:32], "big")
        )
        self.secrets[f"{name}: header"] = payment.headers[NAMES[payment.version]]
        return payment


def environment(
    chain: LocalChain, node: FaultProxy, folder: Path, port: int
) -> dict[str, str]:
    relayer = KEYS[1].hex()
    return {
        **{
            name: value
            for name, value in os.environ.items()
            if "TALLYSTICK" not in name
        },
        "PYTHONPATH": os.pathsep.join(sys.path),
        "TALLYSTICK_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/books.sqlite3",
        "TALLYSTICK_RPC_URLS": node.url,
        "TALLYSTICK_PAY_TO": Account.create().address,
        "TALLYSTICK_RELAYER_KEYS": f"0x{relayer}",
        "TALLYSTICK_SECRET_KEY": secrets.token_urlsafe(48),
        "TALLYSTICK_PORT": str(port),
        "TALLYSTICK_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "TALLYSTICK_LOG_LEVEL": "DEBUG",
        "TALLYSTICK_POLL_SECONDS": "0.1",
        "TALLYSTICK_SETTLE_WAIT": "5",
    }


@pytest.fixture
async def node(chain: LocalChain) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(chain.url) as proxy:
        yield proxy


@pytest.fixture
async def serving(
    chain: LocalChain, node: FaultProxy, tmp_path: Path, free_port: int
) -> AsyncIterator[Serving]:
    settings = environment(chain, node, tmp_path, free_port)
    async with _serving(settings, tmp_path) as one:
        one.secrets["the relayer's key"] = KEYS[1].hex()
        yield one


@contextlib.asynccontextmanager
async def _serving(settings: dict[str, str], tmp_path: Path) -> AsyncIterator[Serving]:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", "from tallystick.cli import main; main()", "serve"),
            env=settings,
            cwd=tmp_path,
            stdout=output,
            stderr=output,
        )
    one = Serving(settings["TALLYSTICK_PUBLIC_URL"], log)
    one.secrets["the secret key"] = settings["TALLYSTICK_SECRET_KEY"]
    try:
        await _until_ready(one, process)
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 20)


async def _until_ready(one: Serving, process: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient() as client:
        for _ in range(300):
            assert process.returncode is None, one.log.read_text()
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(f"{one.url}/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.1)
    raise AssertionError("the server did not start")


async def payments(http: httpx.AsyncClient, one: Serving, wallet: LocalAccount) -> None:
    """Settled, waived, replayed and refused, in both versions."""
    for version in (1, 2):
        for name in ("settled", "waived"):
            made = sign(wallet, await offer_of(http, version=version))
            payment = one.remember_payment(f"{name} {version}", made)
            for _ in range(2):
                await http.get(ANALYST, headers=payment.headers)
        entry = await offer_of(http, version=version)
        poor = sign(Account.create(), entry)
        refused = {
            "without money": poor,
            "by another key": sign(wallet, entry, key=Account.create()),
            "expired": sign(wallet, entry, lives=-1),
            "malformed": sign(wallet, entry).saying("x402Version", 7),
        }
        for name, payment in refused.items():
            one.remember_payment(f"{name} {version}", payment)
            answer = await http.get(ANALYST, headers=payment.headers)
            assert answer.status_code in (400, 402)


async def troubles(
    http: httpx.AsyncClient, one: Serving, node: FaultProxy, wallet: LocalAccount
) -> None:
    """A lost reply after the broadcast, a refusal of the node's, a dead node."""
    body = {"pack": "pack_5"}
    wanted = {"path": ADD, "method": "POST", "json": body}
    for name, method, fault in (
        ("reply lost", "eth_sendRawTransaction", DropAfter(times=1)),
        ("estimate refused", "eth_estimateGas", ErrorAnswer(times=1)),
        ("in trouble", ANY, ErrorAnswer(times=3)),
    ):
        made = sign(wallet, await offer_of(http, **wanted))
        payment = one.remember_payment(name, made)
        node.inject(method, fault)
        await http.post(ADD, json=body, headers=payment.headers)
        node.heal()
    made = sign(wallet, await offer_of(http, **wanted))
    payment = one.remember_payment("dead node", made)
    await node.down()
    await http.post(ADD, json=body, headers=payment.headers)
    await node.up()


async def callers(http: httpx.AsyncClient, one: Serving, wallet: LocalAccount) -> None:
    """Sign-ins and keys, good and bad."""
    signed = siwx.signed(wallet, await siwx.offer_of(http, ANALYST))
    one.secrets["sign-in"] = signed[siwx.HEADER]
    for _ in range(2):
        await http.get("/api/credits", headers=signed)
    maker = siwx.signed(wallet, await siwx.offer_of(http, ANALYST))
    made = await http.post("/api/keys", json={"name": "log"}, headers=maker)
    key = made.json()["secret"]
    one.secrets["a key"] = key
    one.secrets["a key's secret"] = key.split("_")[2]
    wrong = key[:-1] + ("0" if key[-1] != "0" else "1")
    for text in (key, wrong, f"sk_{key[3:]}"):
        for header in ({"Authorization": f"Bearer {text}"}, {"X-API-Key": text}):
            await http.get(ANALYST, headers=header)
            await http.post(DEDUCT, json={"feature": "ai_analyst"}, headers=header)
    guess = "tk_" + secrets.token_hex(40)
    one.secrets["in a query"] = guess
    await http.get(f"/features/{guess}", params={"key": guess})
    await http.post(ADD, json={guess: encode({"x": guess})})


async def test_a_whole_run_logs_no_signature_and_no_key(
    serving: Serving, chain: LocalChain, node: FaultProxy
) -> None:
    wallet = await funded(chain)
    async with httpx.AsyncClient(base_url=serving.url, timeout=60) as http:
        await payments(http, serving, wallet)
        await buy(http, wallet)
        await callers(http, serving, wallet)
        await fund(chain, wallet)
        await troubles(http, serving, node, wallet)
        await asyncio.sleep(3)  # the workers go on for a while
    require_nothing_told(serving, "topup_credited")
    assert len(serving.secrets) > 80


async def test_settling_by_a_facilitator_logs_no_signature_no_key_and_no_token(
    chain: LocalChain, node: FaultProxy, tmp_path: Path, free_port: int
) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    raw = key.private_bytes_raw() + key.public_key().public_bytes_raw()
    wallet, unlucky = await funded(chain), await funded(chain)
    async with sample(chain) as facilitator:
        guarded = OnlyWithToken(facilitator.app, key.public_key())
        async with listening(guarded) as there:
            settings = environment(chain, node, tmp_path, free_port) | {
                "TALLYSTICK_RELAYER_KEYS": "",
                "TALLYSTICK_FACILITATOR_URL": there.url,
                "TALLYSTICK_FACILITATOR_CDP_KEY_ID": KEY_ID,
                "TALLYSTICK_FACILITATOR_CDP_KEY_SECRET": base64.b64encode(raw).decode(),
            }
            facilitator.lies[bytes.fromhex(unlucky.address[2:])] = Lie.GARBAGE
            async with (
                _serving(settings, tmp_path) as one,
                httpx.AsyncClient(base_url=one.url, timeout=60) as http,
            ):
                await payments(http, one, wallet)
                made = sign(unlucky, await offer_of(http))
                lost = one.remember_payment("lied about", made)
                await http.get(ANALYST, headers=lost.headers)
                one.secrets["Coinbase's key"] = base64.b64encode(raw).decode()
                one.secrets["its seed"] = raw[:32].hex()
                one.secrets |= {
                    f"token {number}": token
                    for number, token in enumerate(guarded.tokens)
                }
                await there.down()
                await asyncio.sleep(1)
        require_nothing_told(one, "facilitator_answered")
        assert len(guarded.tokens) >= 3


def require_nothing_told(one: Serving, said: str) -> None:
    written = one.log.read_text(errors="replace")
    assert said in written, "what is searched must be the log"
    lowered = written.lower()
    found = [
        name
        for name, secret in one.secrets.items()
        if secret in written or secret.lower() in lowered
    ]
    assert found == []
