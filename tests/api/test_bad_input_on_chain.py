"""Payments whose nonce, money or calldata is on the chain already (A06, A08-A11)."""

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


async def submit(chain: LocalChain, payment: Payment) -> None:
    """Somebody else takes the payment to the chain."""
    call = settlement_call(authorization_of(payment), payment.signature)
    done = await chain.send(STRANGER, chain.token, call)
    assert done.succeeded


async def cancel(chain: LocalChain, wallet: LocalAccount, payment: Payment) -> None:
    call = cancel_call(chain, bytes(wallet.key), authorization_of(payment).nonce)
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
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
) -> None:
    payment = sign(wallet, await offer_of(http))
    paid = await http.get(ANALYST, headers=payment.headers)
    tx_hash = decode(paid.headers["PAYMENT-RESPONSE"])["transaction"]
    stolen = await rebuilt(chain, tx_hash, payment)
    assert authorization_of(stolen) == authorization_of(payment)
    assert stolen.signature == payment.signature
    key = await issue(attacked, wallet)
    before = (await http.get("/api/credits", headers=bearer(key))).json()
    # With the thief's own, freshly sealed quotes for whatever he wants to have.
    for path in (ANALYST, "/features/ai_analyst?address=0x" + "33" * 20):
        for version in (1, 2):
            entry = await offer_of(http, path, version=version)
            taken = sign(wallet, entry).document | {
                "payload": stolen.document["payload"]
            }
            answer = await http.get(path, headers=Payment(taken, version).headers)
            assert answer.status_code == 409
            refusal_of(answer)
            assert "balance" not in told(answer)
            assert answer.json().get("credits") is None
    after = (await http.get("/api/credits", headers=bearer(key))).json()
    assert after == before
    assert after["credits"] == 9


async def test_a_purchase_rebuilt_from_calldata_shows_public_facts_only(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
) -> None:
    body = {"pack": "pack_5"}
    payment = sign(wallet, await offer_of(http, ADD, method="POST", json=body))
    first = await http.post(ADD, json=body, headers=payment.headers)
    stolen = await rebuilt(chain, first.json()["topup"]["transaction"], payment)
    again = await http.post(ADD, json=body, headers=stolen.headers)
    assert again.status_code == 200
    assert again.headers["idempotency-replayed"] == "true"
    assert set(again.json()) == {"success", "added", "topup"}
    assert again.json()["topup"] == {
        **first.json()["topup"],
        "state": again.json()["topup"]["state"],
    }
    assert await count(attacked, "credit_grant") == 1


@pytest.mark.parametrize("version", [1, 2])
async def test_an_authorization_that_others_submitted_first_buys_credits_and_no_answer(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
    version: int,
) -> None:
    """Whoever shows it need not be its payer."""
    payment = sign(wallet, await offer_of(http, version=version))
    await submit(chain, payment)
    for _ in range(2):
        answer = await http.get(ANALYST, headers=payment.headers)
        assert refusal_of(answer) == SETTLED
        assert answer.json().get("credits") is None
    assert await count(attacked, "usage_event") == 0
    assert await count(attacked, "hold") == 0
    assert await count(attacked, "relayed_transaction") == 0
    key = await issue(attacked, wallet)
    left = (await http.get("/api/credits", headers=bearer(key))).json()
    assert left["credits"] == (1 if version == 1 else 10)


async def test_a_stranger_cannot_spend_credits_with_what_he_read_on_the_chain(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
) -> None:
    """We never saw the payment before, and its wallet has credits to waive it with."""
    await buy(http, wallet)
    payment = sign(wallet, await offer_of(http))
    await submit(chain, payment)
    assert (await attacked.audit()).findings == []
    answer = await http.get(ANALYST, headers=payment.headers)
    assert refusal_of(answer) == SETTLED
    assert await count(attacked, "usage_event") == 0
    key = await issue(attacked, wallet)
    left = (await http.get("/api/credits", headers=bearer(key))).json()
    assert left["credits"] == 60


async def test_a_front_run_payment_for_a_dear_call_tells_no_balance(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
) -> None:
    """Its credits do not suffice, and how far they reach is the payer's business."""
    await buy(http, wallet)
    key = await issue(attacked, wallet)
    spend = {"feature": "ai_analyst", "quantity": 10}
    await http.post("/api/credits/deduct", json=spend, headers=bearer(key))
    tokens = ",".join(f"0x{n:040x}" for n in range(1, 101))
    path = f"{AUDIT}?owner={ADDRESS}&tokens={tokens}"
    short = await http.get(path, headers=bearer(key))
    assert (short.json()["credits"], short.json()["shortfall"]) == (40, 10)
    payment = sign(wallet, decode(short.headers["PAYMENT-REQUIRED"])["accepts"][0])
    await http.post("/api/credits/deduct", json=spend, headers=bearer(key))
    await submit(chain, payment)
    answer = await http.get(path, headers=payment.headers)
    assert refusal_of(answer) == SETTLED
    assert "40" not in (str(answer.json().get("credits")), answer.json()["detail"])


async def test_a_cancelled_authorization_pays_nothing(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
) -> None:
    payment = sign(wallet, await offer_of(http))
    await cancel(chain, wallet, payment)
    assert await nonce_used(
        chain.chain, address_of(wallet), authorization_of(payment).nonce
    )
    # Nothing is signed, so nobody has to wait until the cancellation is final.
    answer = await http.get(ANALYST, headers=payment.headers)
    assert reason_of(answer) == "invalid_transaction_state"
    assert await count(attacked, "topup", "state = 'rejected'") == 1
    assert await count(attacked, "relayed_transaction") == 0
    assert await count(attacked, "credit_grant") == 0
    again = await http.get(ANALYST, headers=payment.headers)
    assert reason_of(again) == "invalid_transaction_state"


async def test_a_cancelled_authorization_proves_its_wallet_all_the_same(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
) -> None:
    """A waived payment is a signature; the chain is not asked about it."""
    await buy(http, wallet)
    payment = sign(wallet, await offer_of(http))
    await cancel(chain, wallet, payment)
    answer = await http.get(ANALYST, headers=payment.headers)
    assert answer.headers["credits-remaining"] == "49"
    assert await count(attacked, "claim", "state = 'waived'") == 1


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


async def test_a_purchase_that_others_submitted_tells_no_balance(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
) -> None:
    """It can be rebuilt from the calldata, so whoever shows it learns public facts."""
    await buy(http, wallet)
    wanted = {"json": {"amount": 2}}
    entry = await offer_of(http, "/api/credits/add", method="POST", **wanted)
    payment = sign(wallet, entry)
    await submit(chain, payment)
    for _ in range(2):
        answer = await http.post("/api/credits/add", headers=payment.headers, **wanted)
        assert (answer.status_code, answer.json()["added"]) == (200, 20)
        assert "credits" not in answer.json()
    key = await issue(attacked, wallet)
    left = (await http.get("/api/credits", headers=bearer(key))).json()
    assert left["credits"] == 70


async def test_a_waived_payment_submitted_by_others_credits_its_payer(
    http: httpx.AsyncClient,
    attacked: LiveServer,
    chain: LocalChain,
    wallet: LocalAccount,
) -> None:
    """The evidence wins, and still nobody is answered for it."""
    await buy(http, wallet)
    payment = sign(wallet, await offer_of(http))
    assert (await http.get(ANALYST, headers=payment.headers)).status_code == 200
    await submit(chain, payment)
    assert (await attacked.audit()).findings == []
    key = await issue(attacked, wallet)
    left = (await http.get("/api/credits", headers=bearer(key))).json()
    assert left["credits"] == 59
    answer = await http.get(ANALYST, headers=payment.headers)
    assert refusal_of(answer) == SETTLED
    assert await count(attacked, "usage_event") == 1
    assert await count(attacked, "relayed_transaction") == 1
