"""Payments whose nonce, money or calldata is on the chain already (A06, A08-A11)."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import ADDRESSES, LocalChain
from tallystick.chain.settlement import settlement_call
from tallystick.chain.token import balance_of, nonce_used
from tallystick.x402.wire import Authorization
from tests.api.callers import bearer, issue
from tests.api.payments import (
    ADDRESS,
    ANALYST,
    ON_SQLITE,
    Payment,
    address_of,
    books,
    buy,
    count,
    decode,
    fund,
    funded,
    offer_of,
    reason_of,
    refusal_of,
    sign,
)
from tests.chain.payer import cancel_call
from tests.live import DOLLAR, LiveServer

pytestmark = ON_SQLITE
STRANGER = ADDRESSES[5]
ADD = "/api/credits/add"
AUDIT = "/features/portfolio_audit"
SETTLED = (409, "payment_already_settled")


def authorization_of(payment: Payment) -> Authorization:
    signed = payment.authorization
    return Authorization(
        payer=bytes.fromhex(signed["from"][2:]),
        pay_to=bytes.fromhex(signed["to"][2:]),
        value=int(signed["value"]),
        valid_after=int(signed["validAfter"]),
        valid_before=int(signed["validBefore"]),
        nonce=bytes.fromhex(signed["nonce"][2:]),
    )


@dataclass
class Scene:
    """A server under attack, the chain that it watches, and an honest payer."""

    http: httpx.AsyncClient
    server: LiveServer
    chain: LocalChain
    wallet: LocalAccount

    async def sign(self, path: str = ANALYST, **how: Any) -> Payment:
        return sign(self.wallet, await offer_of(self.http, path, **how))

    async def buy(self) -> None:
        await buy(self.http, self.wallet)

    async def submit(self, payment: Payment) -> None:
        """Somebody else takes the payment to the chain."""
        await submit(self.chain, payment)

    async def cancel(self, payment: Payment) -> None:
        """The payer takes it back before anybody has used it."""
        nonce = authorization_of(payment).nonce
        call = cancel_call(self.chain, bytes(self.wallet.key), nonce)
        done = await self.chain.send(STRANGER, self.chain.token, call)
        assert done.succeeded

    async def account(self) -> Any:
        """What the payer himself is told about his credits."""
        key = await issue(self.server, self.wallet)
        return (await self.http.get("/api/credits", headers=bearer(key))).json()

    async def count(self, table: str, where: str = "1 = 1") -> int:
        return await count(self.server, table, where)


@pytest.fixture
def scene(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
) -> Scene:
    return Scene(http, attacked, chain, wallet)


async def submit(chain: LocalChain, payment: Payment) -> None:
    call = settlement_call(authorization_of(payment), payment.signature)
    done = await chain.send(STRANGER, chain.token, call)
    assert done.succeeded


async def rebuilt(chain: LocalChain, tx_hash: str, original: Payment) -> Payment:
    """The payment as anybody can read it from the calldata of its transaction."""
    sent = await chain.rpc("eth_getTransactionByHash", tx_hash)
    words = bytes.fromhex(sent["input"][2:])[4:]
    word = [words[at : at + 32] for at in range(0, len(words), 32)]
    value, after, before = (int.from_bytes(one, "big") for one in word[2:5])
    signature = word[7] + word[8] + word[6][-1:]
    return (
        original.signed_as(signature)
        .saying("payload.authorization.from", "0x" + word[0][-20:].hex())
        .saying("payload.authorization.to", "0x" + word[1][-20:].hex())
        .saying("payload.authorization.value", str(value))
        .saying("payload.authorization.validAfter", str(after))
        .saying("payload.authorization.validBefore", str(before))
        .saying("payload.authorization.nonce", "0x" + word[5].hex())
    )


def told(answer: httpx.Response) -> str:
    return answer.text + str(dict(answer.headers))


async def test_a_payment_rebuilt_from_calldata_buys_no_answer_at_any_door(
    scene: Scene,
) -> None:
    payment = await scene.sign()
    paid = await scene.http.get(ANALYST, headers=payment.headers)
    tx_hash = decode(paid.headers["PAYMENT-RESPONSE"])["transaction"]
    stolen = await rebuilt(scene.chain, tx_hash, payment)
    assert authorization_of(stolen) == authorization_of(payment)
    assert stolen.signature == payment.signature
    before = await scene.account()
    # With the thief's own, freshly sealed quotes for whatever he wants to have.
    for path in (ANALYST, "/features/ai_analyst?address=0x" + "33" * 20):
        for version in (1, 2):
            own = await scene.sign(path, version=version)
            taken = own.document | {"payload": stolen.document["payload"]}
            answer = await scene.http.get(path, headers=Payment(taken, version).headers)
            assert answer.status_code == 409
            refusal_of(answer)
            assert "balance" not in told(answer)
            assert answer.json().get("credits") is None
    after = await scene.account()
    assert after == before
    assert after["credits"] == 9


async def test_a_purchase_rebuilt_from_calldata_shows_public_facts_only(
    scene: Scene,
) -> None:
    body = {"pack": "pack_5"}
    payment = await scene.sign(ADD, method="POST", json=body)
    first = await scene.http.post(ADD, json=body, headers=payment.headers)
    stolen = await rebuilt(scene.chain, first.json()["topup"]["transaction"], payment)
    again = await scene.http.post(ADD, json=body, headers=stolen.headers)
    assert again.status_code == 200
    assert again.headers["idempotency-replayed"] == "true"
    assert set(again.json()) == {"success", "added", "topup"}
    assert again.json()["topup"] == {
        **first.json()["topup"],
        "state": again.json()["topup"]["state"],
    }
    assert await scene.count("credit_grant") == 1


@pytest.mark.parametrize("version", [1, 2])
async def test_an_authorization_that_others_submitted_first_buys_credits_and_no_answer(
    scene: Scene, version: int
) -> None:
    """Whoever shows it need not be its payer."""
    payment = await scene.sign(version=version)
    await scene.submit(payment)
    for _ in range(2):
        answer = await scene.http.get(ANALYST, headers=payment.headers)
        assert refusal_of(answer) == SETTLED
        assert answer.json().get("credits") is None
    assert await scene.count("usage_event") == 0
    assert await scene.count("hold") == 0
    assert await scene.count("relayed_transaction") == 0
    assert (await scene.account())["credits"] == (1 if version == 1 else 10)


async def test_a_stranger_cannot_spend_credits_with_what_he_read_on_the_chain(
    scene: Scene,
) -> None:
    """We never saw the payment before, and its wallet has credits to waive it with."""
    await scene.buy()
    payment = await scene.sign()
    await scene.submit(payment)
    assert (await scene.server.audit()).findings == []
    answer = await scene.http.get(ANALYST, headers=payment.headers)
    assert refusal_of(answer) == SETTLED
    assert await scene.count("usage_event") == 0
    assert (await scene.account())["credits"] == 60


async def test_a_front_run_payment_for_a_dear_call_tells_no_balance(
    scene: Scene,
) -> None:
    """Its credits do not suffice, and how far they reach is the payer's business."""
    await scene.buy()
    key = await issue(scene.server, scene.wallet)
    spend = {"feature": "ai_analyst", "quantity": 10}
    await scene.http.post("/api/credits/deduct", json=spend, headers=bearer(key))
    tokens = ",".join(f"0x{n:040x}" for n in range(1, 101))
    path = f"{AUDIT}?owner={ADDRESS}&tokens={tokens}"
    short = await scene.http.get(path, headers=bearer(key))
    assert (short.json()["credits"], short.json()["shortfall"]) == (40, 10)
    entry = decode(short.headers["PAYMENT-REQUIRED"])["accepts"][0]
    payment = sign(scene.wallet, entry)
    await scene.http.post("/api/credits/deduct", json=spend, headers=bearer(key))
    await scene.submit(payment)
    answer = await scene.http.get(path, headers=payment.headers)
    assert refusal_of(answer) == SETTLED
    assert "40" not in (str(answer.json().get("credits")), answer.json()["detail"])


async def test_a_cancelled_authorization_pays_nothing(scene: Scene) -> None:
    payment = await scene.sign()
    await scene.cancel(payment)
    assert await nonce_used(
        scene.chain.chain, address_of(scene.wallet), authorization_of(payment).nonce
    )
    # Nothing is signed, so nobody has to wait until the cancellation is final.
    answer = await scene.http.get(ANALYST, headers=payment.headers)
    assert reason_of(answer) == "invalid_transaction_state"
    assert await scene.count("topup", "state = 'rejected'") == 1
    assert await scene.count("relayed_transaction") == 0
    assert await scene.count("credit_grant") == 0
    again = await scene.http.get(ANALYST, headers=payment.headers)
    assert reason_of(again) == "invalid_transaction_state"


async def test_a_cancelled_authorization_proves_its_wallet_all_the_same(
    scene: Scene,
) -> None:
    """A waived payment is a signature; the chain is not asked about it."""
    await scene.buy()
    payment = await scene.sign()
    await scene.cancel(payment)
    answer = await scene.http.get(ANALYST, headers=payment.headers)
    assert answer.headers["credits-remaining"] == "49"
    assert await scene.count("claim", "state = 'waived'") == 1


@pytest.mark.parametrize("version", [1, 2])
async def test_a_payer_without_money_is_refused_and_nothing_is_signed(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain, version: int
) -> None:
    poor = await funded(chain, 0)
    payment = sign(poor, await offer_of(http, version=version))
    before = await books(attacked)
    for _ in range(2):
        answer = await http.get(ANALYST, headers=payment.headers)
        assert reason_of(answer) == "insufficient_funds"
    assert await books(attacked) == before
    assert await count(attacked, "customer") == 0
    await fund(chain, poor)
    served = await http.get(ANALYST, headers=payment.headers)
    assert served.status_code == 200, served.text


async def test_a_payer_one_unit_short_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    poor = await funded(chain, 1)
    payee = sign(poor, await offer_of(http), value=1)
    await submit(chain, payee)
    payment = sign(poor, await offer_of(http))
    answer = await http.get(ANALYST, headers=payment.headers)
    assert reason_of(answer) == "insufficient_funds"
    assert await balance_of(chain.chain, address_of(poor)) == DOLLAR - 1
    assert await count(attacked, "relayed_transaction") == 0


async def test_a_purchase_that_others_submitted_tells_no_balance(scene: Scene) -> None:
    """It can be rebuilt from the calldata, so whoever shows it learns public facts."""
    await scene.buy()
    wanted = {"json": {"amount": 2}}
    payment = await scene.sign(ADD, method="POST", **wanted)
    await scene.submit(payment)
    for _ in range(2):
        answer = await scene.http.post(ADD, headers=payment.headers, **wanted)
        assert (answer.status_code, answer.json()["added"]) == (200, 20)
        assert "credits" not in answer.json()
    assert (await scene.account())["credits"] == 70


async def test_a_waived_payment_submitted_by_others_credits_its_payer(
    scene: Scene,
) -> None:
    """The evidence wins, and still nobody is answered for it."""
    await scene.buy()
    payment = await scene.sign()
    assert (await scene.http.get(ANALYST, headers=payment.headers)).status_code == 200
    await scene.submit(payment)
    assert (await scene.server.audit()).findings == []
    assert (await scene.account())["credits"] == 59
    answer = await scene.http.get(ANALYST, headers=payment.headers)
    assert refusal_of(answer) == SETTLED
    assert await scene.count("usage_event") == 1
    assert await scene.count("relayed_transaction") == 1


@pytest.mark.parametrize(
    ("path", "how"),
    [(ANALYST, {}), (ADD, {"method": "POST", "json": {"amount": 2}})],
    ids=["call", "purchase"],
)
async def test_a_nonce_that_paid_us_another_amount_asks_nobody_to_pay_again(
    scene: Scene, path: str, how: dict[str, Any]
) -> None:
    """Its money is here, so a 402 would take more of it; a person decides."""
    payment = await scene.sign(path, **how)
    nonce = authorization_of(payment).nonce
    entry = await offer_of(scene.http, path, **how)
    await scene.submit(sign(scene.wallet, entry, value=5 * DOLLAR, nonce=nonce))
    once = {"Idempotency-Key": "one"}
    another = await scene.sign(path, **how)
    asked = [payment.headers | once, payment.headers, another.headers | once]
    for headers in asked:
        answer = await scene.http.request(
            how.get("method", "GET"), path, json=how.get("json"), headers=headers
        )
        assert refusal_of(answer) == (409, "payment_under_review"), answer.text
        assert answer.json()["topup"].startswith("top_")
    assert await scene.count("topup", "state = 'quarantine'") == 1
    assert await scene.count("relayed_transaction") == 0
    assert (await scene.server.audit()).findings == []
