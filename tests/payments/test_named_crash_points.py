"""A real server dies at each step of a payment's way; the next one goes on.

Each point is armed by name in a process of its own, somebody pays, the process is gone.
Then a server without it has nothing but the database and the chain.
"""

import asyncio
import contextlib
import re
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from sqlalchemy import func
from sqlmodel import col, select

import tallystick
from tallystick.audit import audit
from tallystick.chain.evidence import transfers_to
from tallystick.chain.local import ADDRESSES, KEYS, LocalChain
from tallystick.chain.token import balance_of
from tallystick.config import Settings
from tallystick.customers.wallets import customer_of_wallet
from tallystick.demo.ports import free_port
from tallystick.kernel.crash_points import CrashPoint
from tallystick.ledger.balances import customer_balance
from tallystick.payments.models.chain import ChainCursor, ChainTransfer, Presence
from tallystick.payments.models.paybacks import PaybackState
from tallystick.payments.models.topups import (
    PAID_STATES,
    RelayedTransaction,
    TopUp,
    TopUpState,
)
from tallystick.payments.observer import observe
from tallystick.payments.paybacks.issuing import pay_from_float_key
from tallystick.payments.paybacks.proposing import Proposal, propose
from tallystick.payments.paybacks.reading import read_payback
from tallystick.paywall.gate import Gate
from tallystick.wiring import build_gate, rate_of
from tests.api.payments import (
    ANALYST,
    DOLLAR,
    Payment,
    address_of,
    decode,
    fund,
    sign,
)
from tests.api.test_sign_in import signed
from tests.chain.payer import cancel_call, transfer_call
from tests.payments.test_merchant_crashes import POINTS as MERCHANTS
from tests.processes import ServerProcess

P = CrashPoint
ADD = "/api/credits/add"
RELAYER = 6
_SECONDS = 60
_AT_ONCE = 7
FINAL = {"payment_rejected", "payment_already_settled"}
USE = r"\breached\(CrashPoint\.(\w+)\)"
CURSOR = select(func.max(ChainCursor.block_number))


@dataclass
class Scene:
    """One shop and one payer, whose server dies and is started again."""

    chain: LocalChain
    folder: Path
    settings: dict[str, str]
    wallet: LocalAccount = field(default_factory=Account.create)
    expected: int = 10 * DOLLAR
    transfers: int = 1
    replaced_block: int | None = None
    payback_id: int | None = None

    @property
    def pay_to(self) -> bytes:
        return bytes.fromhex(self.settings["PAY_TO"][2:])

    def server(self, **more: str) -> ServerProcess:
        return ServerProcess(self.settings | more, self.folder)

    def gate(self) -> Gate:
        values: dict[str, Any] = {
            "database_url": self.settings["DATABASE_URL"],
            "rpc_urls": (self.chain.url,),
            "pay_to": self.settings["PAY_TO"],
            "secret_key": self.settings["SECRET_KEY"],
            "relayer_keys": (self.settings["RELAYER_KEYS"],),
            "payback_key": self.settings["PAYBACK_KEY"],
        }
        return build_gate(Settings(**values))


Presenting = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
Prepare = Callable[[Scene, httpx.AsyncClient], Awaitable[Presenting]]


async def payment_for(http: httpx.AsyncClient, scene: Scene, **request: Any) -> Payment:
    offer = await http.request(**request)
    accepts = decode(offer.headers["PAYMENT-REQUIRED"])["accepts"]
    return sign(scene.wallet, accepts[0])


async def purchase(scene: Scene, http: httpx.AsyncClient) -> Presenting:
    """Ten credits for a dollar."""
    request: dict[str, Any] = {"method": "POST", "url": ADD, "json": {"amount": 1}}
    payment = await payment_for(http, scene, **request)
    return lambda http: http.request(**request, headers=payment.headers)


async def paid_call(scene: Scene, http: httpx.AsyncClient) -> Presenting:
    """A dollar for a call of one credit."""
    request: dict[str, Any] = {"method": "GET", "url": ANALYST}
    payment = await payment_for(http, scene, **request)
    return lambda http: http.request(**request, headers=payment.headers)


async def cancelled(scene: Scene, http: httpx.AsyncClient) -> Presenting:
    """A purchase with an authorization that its payer has cancelled."""
    request: dict[str, Any] = {"method": "POST", "url": ADD, "json": {"amount": 1}}
    payment = await payment_for(http, scene, **request)
    nonce = bytes.fromhex(payment.authorization["nonce"][2:])
    call = cancel_call(scene.chain, bytes(scene.wallet.key), nonce)
    await scene.chain.send(address_of(scene.wallet), scene.chain.token, call)
    scene.expected, scene.transfers = 0, 0
    return lambda http: http.request(**request, headers=payment.headers)


async def redemption(scene: Scene, http: httpx.AsyncClient) -> Presenting:
    """A plain transfer, whose sender proves that it was his."""
    call = transfer_call(scene.pay_to, DOLLAR)
    done = await scene.chain.send(address_of(scene.wallet), scene.chain.token, call)
    await scene.chain.mine(70)
    body = {"transactionId": f"0x{done.tx_hash.hex()}"}

    async def present(http: httpx.AsyncClient) -> httpx.Response:
        asked = await http.post(ADD, json=body)
        info = asked.json()["extensions"]["sign-in-with-x"]["info"]
        return await http.post(ADD, json=body, headers=signed(scene.wallet, info))

    return present


async def replaced(scene: Scene, http: httpx.AsyncClient) -> Presenting:
    """A purchase that was credited, and whose block the chain then replaces."""
    await scene.chain.mine()
    present = await purchase(scene, http)
    answer = await outcome(present, http)
    assert answer.status_code == 200, answer.text
    block = answer.json()["topup"]["block"]
    await observed(scene, block)
    await scene.chain.reorg(block)
    scene.replaced_block = block
    return present


async def made_final(scene: Scene, http: httpx.AsyncClient) -> Presenting:
    """A purchase that was credited, and whose block then becomes final."""
    present = await purchase(scene, http)
    # A busy machine may answer 202 at first.
    assert (await outcome(present, http)).status_code == 200
    await scene.chain.mine(70)
    return present


async def paid_back(scene: Scene, http: httpx.AsyncClient) -> Presenting:
    """A purchase that is final, and goes back from the float before it was used."""
    present = await made_final(scene, http)
    gate = scene.gate()
    try:
        await gate.db.start()
        topup_id = await final_topup(gate)
        assert gate.rail.float_key is not None
        await scene.chain.mint(gate.rail.float_key.address, DOLLAR)
        await scene.chain.give_gas(gate.rail.float_key.address)
        wanted = Proposal(topup_id, "ann", "asked for by mail")
        scene.payback_id = (await propose(gate.db, gate.rail, wanted)).id
        await pay_from_float_key(gate.db, gate.rail, scene.payback_id, "ann")
    finally:
        await gate.db.close()
        await gate.rail.chain.close()
    scene.expected = 0

    async def go_on(http: httpx.AsyncClient) -> httpx.Response:
        await scene.chain.mine(20)
        return await present(http)

    return go_on


async def final_topup(gate: Gate) -> int:
    """Once the server has seen that it is."""
    final = select(TopUp.id).where(col(TopUp.state) == TopUpState.FINAL)
    for _ in range(400):
        async with gate.db.read() as session:
            found = (await session.exec(final)).one_or_none()
        if found is not None:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("the payment never becomes final")


async def require_paid_back(scene: Scene) -> None:
    """Until it is closed; the payer has his dollar, and no more."""
    assert scene.payback_id is not None
    gate = scene.gate()
    try:
        for _ in range(400):
            await scene.chain.mine(20)
            async with gate.db.read() as session:
                found = await read_payback(session, scene.payback_id)
            if found.state == PaybackState.PAID:
                break
            await asyncio.sleep(0.05)
        assert found.state == PaybackState.PAID
        assert gate.rail.float_key is not None
        left = await balance_of(scene.chain.chain, gate.rail.float_key.address)
        assert left == 0
    finally:
        await gate.db.close()
        await gate.rail.chain.close()


async def observed(scene: Scene, block: int) -> None:
    """Until the observer has read the block."""
    gate = scene.gate()
    try:
        for _ in range(200):
            async with gate.db.read() as session:
                if ((await session.exec(CURSOR)).one() or 0) >= block:
                    return
            await asyncio.sleep(0.05)
        raise AssertionError("the observer does not come so far")
    finally:
        await gate.db.close()
        await gate.rail.chain.close()


SCENES: dict[CrashPoint, Prepare] = {
    P.CLAIM_UNCOMMITTED: purchase,
    P.CLAIMED: purchase,
    P.CALL_CLAIMED: paid_call,
    P.CALL_DECIDED: paid_call,
    P.REHEARSED: purchase,
    P.SIGNED_UNCOMMITTED: purchase,
    P.SIGNED: purchase,
    P.SENT: paid_call,
    P.CREDIT_UNCOMMITTED: purchase,
    P.CREDITED: paid_call,
    P.OUTCOME_KNOWN: purchase,
    P.MOVE_UNCOMMITTED: cancelled,
    P.SUSPENDED_UNCOMMITTED: redemption,
    P.BLOCK_BOOKED: purchase,
    P.CURSOR_MOVED: purchase,
    P.CURSOR_TAKEN_BACK: replaced,
    P.REVERSAL_UNCOMMITTED: replaced,
    P.REVERSED: replaced,
    P.MADE_SAFE_UNCOMMITTED: made_final,
    P.REDEMPTION_UNCOMMITTED: redemption,
    P.REDEEMED: redemption,
    P.PAYBACK_SIGNED_UNCOMMITTED: paid_back,
    P.PAYBACK_SIGNED: paid_back,
    P.PAYBACK_SENT: paid_back,
    P.PAYBACK_CLOSED_UNCOMMITTED: paid_back,
}
BEFORE_IT_SERVES = {redemption}
"""What happens on the chain alone can have happened before the server starts."""


@contextlib.asynccontextmanager
async def staged(
    point: CrashPoint, folder: Path, template: Path
) -> AsyncIterator[Scene]:
    path = folder / f"{point}.sqlite3"
    shutil.copy(template, path)
    async with LocalChain(slots_in_an_epoch=32) as chain:
        await chain.mine(70)
        port = free_port()
        settings = {
            "DATABASE_URL": f"sqlite+aiosqlite:///{path}",
            "RPC_URLS": chain.url,
            "PAY_TO": Account.create().address,
            "RELAYER_KEYS": f"0x{KEYS[RELAYER].hex()}",
            "PAYBACK_KEY": f"0x{Account.create().key.hex()}",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "PORT": str(port),
            "POLL_SECONDS": "0.1",
            "SETTLE_WAIT": "1",
        }
        one = Scene(chain, folder, settings)
        await fund(chain, one.wallet)
        head = await chain.chain.block("latest")
        assert head is not None
        # The first block that the observer reads is then one of the payment's.
        settings["START_BLOCK"] = str(head.number + 1)
        yield one


async def die(scene: Scene, point: CrashPoint) -> Presenting:
    """Serve and pay until the process is gone; how the same payment is shown again."""
    server = scene.server(CRASH_AT=point)
    prepare, present = SCENES[point], None
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
            if prepare in BEFORE_IT_SERVES:
                present = await prepare(scene, http)
            with contextlib.suppress(AssertionError):  # it may die before it is ready
                await server.start()
            present = present or await prepare(scene, http)
            assert server.program is not None
            async with asyncio.timeout(_SECONDS):
                while server.program.process.is_alive():
                    with contextlib.suppress(httpx.TransportError):
                        await present(http)
                    await asyncio.sleep(0.05)
        ended = await server.program.end()
    finally:
        if server.program is not None:
            await server.end(signal.SIGKILL)
    assert ended.code == -signal.SIGKILL, ended.said
    assert f"crash point {point}\n" in ended.err
    return present


async def outcome(
    present: Presenting, http: httpx.AsyncClient, *, replaced_block: int | None = None
) -> httpx.Response:
    """The answer, once there is one that stays, and not of a block that is gone."""
    answer = None
    for _ in range(600):
        answer = await present(http)
        document = answer.json()
        if answer.status_code == 200 or document.get("code") in FINAL:
            block = document.get("topup", {}).get("block")
            if block is None or block != replaced_block:
                return answer
        assert answer.status_code in {200, 202, 404, 409, 503}, answer.text
        await asyncio.sleep(0.05)
    raise AssertionError(f"no answer stays: {answer.text if answer else None}")


async def require_sound(scene: Scene, served: httpx.Response) -> None:
    """Credited once, taken from the chain once, and no nonce left open."""
    gate = scene.gate()
    try:
        head = await gate.rail.head()
        await observe(gate.db, gate.rail, rate_of(gate.catalog), hold_seconds=60)
        seen = await transfers_to(gate.rail.chain, scene.pay_to, 0, head.number)
        assert len(seen) == scene.transfers
        async with gate.db.read() as session:
            customer = await customer_of_wallet(session, address_of(scene.wallet))
            funds = await customer_balance(session, customer or 0)
            topups = (await session.exec(select(TopUp))).all()
            sent = (await session.exec(select(RelayedTransaction))).all()
            booked = col(ChainTransfer.presence) == Presence.BOOKED
            transfers = (await session.exec(select(ChainTransfer).where(booked))).all()
        charged = served.headers.get("credits-charged", "0")
        assert funds.posted == scene.expected - int(charged) * DOLLAR
        assert len(transfers) == scene.transfers
        assert sum(one.state in PAID_STATES for one in topups) <= scene.transfers
        nonce = await scene.chain.chain.nonce(ADDRESSES[RELAYER], "latest")
        assert sorted(one.evm_nonce for one in sent) == list(range(nonce))
        assert (await audit(gate.db, gate.rail)).findings == []
    finally:
        await gate.db.close()
        await gate.rail.chain.close()


@pytest.mark.parametrize("first", range(0, len(SCENES), _AT_ONCE))
async def test_a_server_that_dies_there_loses_and_doubles_nothing(
    tmp_path: Path, sqlite_template: Path, first: int
) -> None:
    """Each mostly waits, so some are done at once."""

    async def go_through(point: CrashPoint) -> None:
        try:
            async with staged(point, tmp_path, sqlite_template) as scene:
                await die_and_go_on(scene, point)
        except Exception as error:
            error.add_note(f"crash point {point}")
            raise

    points = list(SCENES)[first : first + _AT_ONCE]
    await asyncio.gather(*(go_through(point) for point in points))


async def die_and_go_on(scene: Scene, point: CrashPoint) -> None:
    present = await die(scene, point)
    server = scene.server()
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
            gone = scene.replaced_block
            answer = await outcome(present, http, replaced_block=gone)
            await require_the_same(await outcome(present, http), answer)
            # Whoever comes after it waits behind no nonce that was left open.
            later = await outcome(await purchase(scene, http), http)
            assert later.status_code == 200, later.text
            scene.expected += 10 * DOLLAR
            scene.transfers += 1
        if scene.payback_id is not None:
            await require_paid_back(scene)
    finally:
        await server.end(signal.SIGKILL)
    await require_sound(scene, answer)


async def require_the_same(again: httpx.Response, answer: httpx.Response) -> None:
    """What is settled is public by now: it shows its facts again, and runs no call."""
    if "credits-charged" in answer.headers:
        assert again.json()["code"] == "payment_already_settled"
        return
    assert again.status_code == answer.status_code
    one, other = again.json(), answer.json()
    for member in ("transfer", "code"):
        assert one.get(member) == other.get(member)
    # Its state goes on: a block becomes safe and final meanwhile.
    assert one.get("topup", {}).get("id") == other.get("topup", {}).get("id")


def test_every_name_stands_in_the_code_and_is_gone_through() -> None:
    code = Path(tallystick.__file__).parent.rglob("*.py")
    used = [name for file in code for name in re.findall(USE, file.read_text())]
    assert sorted(used) == sorted(point.name for point in CrashPoint)
    assert set(SCENES) | set(MERCHANTS) == set(CrashPoint)
