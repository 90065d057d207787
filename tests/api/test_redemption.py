"""A plain transfer's credits go to whoever proves the wallet that sent it (A06)."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import ADDRESSES, LocalChain
from tallystick.chain.settlement import settlement_call
from tallystick.payments.observing.confirm import confirm
from tests.api.callers import bearer, give, issue
from tests.api.payments import (
    ON_SQLITE,
    address_of,
    buy,
    count,
    funded,
    offer_of,
    refusal_of,
    sign,
)
from tests.api.test_bad_input_on_chain import authorization_of
from tests.api.test_sign_in import signed
from tests.chain.payer import transfer_call
from tests.live import DOLLAR, LiveServer

ADD = "/api/credits/add"


async def sign_in(http: httpx.AsyncClient, wallet: LocalAccount) -> dict[str, str]:
    """The header by which a wallet proves itself for a redemption."""
    asked = await http.post(ADD, json={"transactionId": "0x" + "00" * 32})
    return signed(wallet, asked.json()["extensions"]["sign-in-with-x"]["info"])


@dataclass
class Scene:
    http: httpx.AsyncClient
    server: LiveServer
    chain: LocalChain

    async def transfer(
        self, sender: LocalAccount, dollars: int = 2, *, to: bytes | None = None
    ) -> str:
        """A plain transfer that is safe and in the books; its transaction."""
        pay_to = to or self.server.gate.rail.pay_to
        call = transfer_call(pay_to, dollars * DOLLAR)
        done = await self.chain.send(address_of(sender), self.chain.token, call)
        assert done.succeeded
        await self.settle_down()
        return f"0x{done.tx_hash.hex()}"

    async def settle_down(self) -> None:
        await self.chain.mine(3)
        gate = self.server.gate
        await confirm(gate.db, gate.rail)
        assert (await self.server.audit()).findings == []

    async def sign_in(self, wallet: LocalAccount) -> dict[str, str]:
        return await sign_in(self.http, wallet)

    async def redeem(self, tx: str, headers: dict[str, str]) -> httpx.Response:
        return await self.http.post(ADD, json={"transactionId": tx}, headers=headers)


@pytest.fixture
def scene(http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain) -> Scene:
    return Scene(http, attacked, chain)


async def test_a_wallet_that_never_paid_signs_in_and_gets_the_credits_once(
    scene: Scene, wallet: LocalAccount
) -> None:
    tx = await scene.transfer(wallet)
    first = await scene.redeem(tx, await scene.sign_in(wallet))
    assert first.status_code == 200, first.text
    assert first.json() == {
        "success": True,
        "added": 20,
        "credits": 20,
        "transfer": {"transaction": tx, "network": "eip155:84532", "usdc": 2},
    }
    again = await scene.redeem(
        tx.upper().replace("0X", "0x"), await scene.sign_in(wallet)
    )
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.json()["added"], again.json()["credits"]) == (20, 20)
    assert await count(scene.server, "credit_grant") == 1
    assert (await scene.server.audit()).findings == []


async def test_a_key_of_the_customer_whose_wallet_it_is_redeems_too(
    scene: Scene, wallet: LocalAccount
) -> None:
    await buy(scene.http, wallet)
    key = bearer(await issue(scene.server, wallet))
    tx = await scene.transfer(wallet, 3)
    answers = await asyncio.gather(*(scene.redeem(tx, key) for _ in range(8)))
    assert {one.status_code for one in answers} == {200}
    fresh = [one for one in answers if "idempotency-replayed" not in one.headers]
    assert len(fresh) == 1
    assert fresh[0].json()["credits"] == 80
    line = (await scene.http.get("/api/credits/transactions", headers=key)).json()
    assert line["transactions"][0]["credits"] == 30


@ON_SQLITE
async def test_a_hash_is_no_credential(scene: Scene, wallet: LocalAccount) -> None:
    """Everybody can read it on the chain."""
    tx = await scene.transfer(wallet)
    thief = await funded(scene.chain)
    await give(scene.server, thief, 1)
    for headers in (
        await scene.sign_in(thief),
        bearer(await issue(scene.server, thief)),
    ):
        assert refusal_of(await scene.redeem(tx, headers)) == (409, "payer_not_linked")
    assert refusal_of(await scene.redeem(tx, {})) == (401, "identity_required")
    assert await count(scene.server, "redemption") == 0


@ON_SQLITE
async def test_a_service_key_redeems_for_the_sender_and_for_nobody_else(
    scene: Scene, wallet: LocalAccount
) -> None:
    await give(scene.server, wallet, 1)
    other = await funded(scene.chain)
    await give(scene.server, other, 1)
    tx = await scene.transfer(wallet)
    key = bearer(await issue(scene.server, None))
    wrong = key | {"Tallystick-Customer": other.address}
    assert refusal_of(await scene.redeem(tx, wrong)) == (409, "payer_not_linked")
    right = key | {"Tallystick-Customer": wallet.address}
    assert (await scene.redeem(tx, right)).json()["credits"] == 21


@ON_SQLITE
async def test_other_peoples_transactions_and_other_tokens_bring_nothing(
    scene: Scene, wallet: LocalAccount
) -> None:
    await give(scene.server, wallet, 1)
    key = bearer(await issue(scene.server, wallet))
    elsewhere = await scene.transfer(wallet, to=b"\x0e" * 20)
    ether = await scene.chain.send(
        address_of(wallet), scene.server.gate.rail.pay_to, b""
    )
    await scene.settle_down()
    for tx in (elsewhere, f"0x{ether.tx_hash.hex()}", "0x" + "ab" * 32):
        refused = await scene.redeem(tx, key)
        assert refusal_of(refused) == (404, "unknown_transfer")


async def test_a_payment_that_never_came_here_is_redeemed_and_its_header_finds_it(
    scene: Scene, wallet: LocalAccount
) -> None:
    """The books were restored from an older backup, or a stranger was faster."""
    entry = await offer_of(scene.http, ADD, method="POST", json={"amount": 2})
    payment = sign(wallet, entry)
    call = settlement_call(authorization_of(payment), payment.signature)
    done = await scene.chain.send(ADDRESSES[5], scene.chain.token, call)
    await scene.settle_down()
    tx = f"0x{done.tx_hash.hex()}"
    thief = await funded(scene.chain)
    stolen = await scene.redeem(tx, await scene.sign_in(thief))
    assert refusal_of(stolen) == (409, "payer_not_linked")
    first = await scene.redeem(tx, await scene.sign_in(wallet))
    assert (first.json()["added"], first.json()["credits"]) == (20, 20)
    again = await scene.redeem(tx, await scene.sign_in(wallet))
    assert again.headers["idempotency-replayed"] == "true"
    paid = await scene.http.post(ADD, json={"amount": 2}, headers=payment.headers)
    assert paid.status_code == 200, paid.text
    assert paid.headers["idempotency-replayed"] == "true"
    assert paid.json()["added"] == 20
    assert "credits" not in paid.json(), "a header that is public tells public facts"
    assert await count(scene.server, "credit_grant") == 1


@ON_SQLITE
async def test_what_was_presented_is_not_redeemed(
    scene: Scene, wallet: LocalAccount
) -> None:
    bought = await buy(scene.http, wallet)
    await scene.settle_down()
    tx = bought.json()["topup"]["transaction"]
    key = bearer(await issue(scene.server, wallet))
    assert refusal_of(await scene.redeem(tx, key)) == (404, "unknown_transfer")


@ON_SQLITE
async def test_it_waits_until_its_block_is_safe(
    scene: Scene, wallet: LocalAccount
) -> None:
    await give(scene.server, wallet, 1)
    tx = await scene.transfer(wallet)
    gate = scene.server.gate
    safe, gate.rail.outlook.safe_number = gate.rail.outlook.safe_number, 0
    key = bearer(await issue(scene.server, wallet))
    early = await scene.redeem(tx, key)
    gate.rail.outlook.safe_number = safe
    if early.status_code != 200:  # the server's own look may have come in between
        assert refusal_of(early) == (409, "transfer_not_safe")
        assert int(early.headers["retry-after"]) > 0
    assert (await scene.redeem(tx, key)).json()["credits"] == 21


@ON_SQLITE
@pytest.mark.parametrize(
    "body",
    [
        {"transactionId": "0x12"},
        {"transactionId": "12" * 32},
        {"transactionId": 5},
        {"transactionId": "0x" + "g0" * 32},
        {"transactionId": "0x" + "00" * 32, "amount": 2},
        {"transactionId": "0x" + "00" * 32, "pack": "pack_5"},
        {"transaction_id": "0x" + "00" * 32},
    ],
)
async def test_what_is_no_transaction_is_refused(
    scene: Scene, wallet: LocalAccount, body: dict[str, Any]
) -> None:
    await give(scene.server, wallet, 1)
    key = bearer(await issue(scene.server, wallet))
    answer = await scene.http.post(ADD, json=body, headers=key)
    assert refusal_of(answer) == (422, "invalid_request")
