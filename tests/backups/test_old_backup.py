"""Yesterday's backup is restored: what was paid since is credited once, by the chain."""

import asyncio
import json
import secrets
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import ADDRESSES, LocalChain
from tallystick.chain.settlement import settlement_call
from tests.api.payments import ANALYST, Payment, funded, offer_of, sign
from tests.api.test_bad_input_on_chain import authorization_of
from tests.api.test_redemption import sign_in
from tests.processes import run, serving
from tests.test_cli import settings_for

ADD = "/api/credits/add"


async def pay(
    http: httpx.AsyncClient, wallet: LocalAccount, dollars: int
) -> tuple[Payment, str]:
    """The payment for so many dollars' credits, and its transaction."""
    payment = await prepare(http, wallet, dollars)
    answer = await present(http, payment, dollars)
    assert answer.json()["added"] == 10 * dollars
    return payment, answer.json()["topup"]["transaction"]


async def prepare(
    http: httpx.AsyncClient, wallet: LocalAccount, dollars: int
) -> Payment:
    body = {"amount": dollars}
    return sign(wallet, await offer_of(http, ADD, method="POST", json=body))


async def present(
    http: httpx.AsyncClient, payment: Payment, dollars: int
) -> httpx.Response:
    answer = await http.post(ADD, json={"amount": dollars}, headers=payment.headers)
    assert answer.status_code == 200, answer.text
    return answer


async def waive(http: httpx.AsyncClient, wallet: LocalAccount) -> None:
    """A call that credits pay for; nothing of it is on the chain."""
    payment = sign(wallet, await offer_of(http))
    answer = await http.get(ANALYST, headers=payment.headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["credits-charged"] == "1"


async def credits_of(http: httpx.AsyncClient, wallet: LocalAccount) -> float:
    headers = await sign_in(http, wallet)
    answer = await http.get("/api/credits", headers=headers)
    assert answer.status_code == 200, answer.text
    return float(answer.json()["credits"])


async def eventually(look: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    for _ in range(150):
        if await look():
            return
        await asyncio.sleep(0.2)
    raise AssertionError("it never came so far")


async def test_what_was_paid_after_the_backup_is_credited_once(
    punctual: LocalChain, tmp_path: Path
) -> None:
    file = tmp_path / "yesterday.backup"
    old = settings_for(punctual, tmp_path, SECRET_KEY=secrets.token_hex(32))
    known = [await funded(punctual) for _ in range(3)]
    first, second, third = known
    stranger = await funded(punctual)
    async with serving(tmp_path, **old) as lost:
        async with httpx.AsyncClient(base_url=lost.url, timeout=60) as http:
            for one in known:
                await pay(http, one, 1)
            taken = await run("backup", str(file), cwd=tmp_path, **old)
            assert taken.code == 0, taken.said
            # None of this is in the backup.
            await pay(http, second, 3)
            await waive(http, second)
            ahead = await prepare(http, third, 4)
            call = settlement_call(authorization_of(ahead), ahead.signature)
            await punctual.send(ADDRESSES[5], punctual.token, call)
            await present(http, ahead, 4)
            _, of_stranger = await pay(http, stranger, 5)
            again, _ = await pay(http, first, 2)
        assert (await lost.end(signal.SIGKILL)).code == -signal.SIGKILL

    new = old | {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/restored.sqlite3"}
    restored = await run("restore", str(file), cwd=tmp_path, **new)
    assert restored.code == 0, restored.said
    async with serving(tmp_path, **new) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            # Its block is the newest, so it is not final yet.
            await present(http, again, 2)
            # The relayer's next nonce is the chain's, not the one in the backup.
            await pay(http, third, 6)
            await punctual.mine(3)

            async def all_are_credited() -> bool:
                return [await credits_of(http, one) for one in known] == [30, 40, 110]

            await eventually(all_are_credited)
            body = {"transactionId": of_stranger}
            for _ in range(2):
                headers = await sign_in(http, stranger)
                redeemed = await http.post(ADD, json=body, headers=headers)
                assert redeemed.status_code == 200, redeemed.text
                assert redeemed.json()["credits"] == 50
            assert (await present(http, again, 2)).headers["idempotency-replayed"]
            assert await all_are_credited()

        async def everything_adds_up() -> bool:
            audit = await run("audit", "--json", cwd=tmp_path, **new)
            report = json.loads(audit.out)
            assert report["ok"], audit.out
            everything = 3 * 1 + 3 + 4 + 5 + 2 + 6
            return bool(report["ledger_usdc"] == report["chain_usdc"] == everything)

        await eventually(everything_adds_up)
