"""Stock clients at a server that leaves settling to a facilitator, through its doors."""

import base64
from collections.abc import AsyncIterator

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from tallystick.chain.local import LocalChain
from tallystick.samples.facilitator import Lie, SampleFacilitator
from tests.api.payments import (
    ANALYST,
    ON_SQLITE,
    count,
    decode,
    funded,
    offer_of,
    serve_honest_payer,
    sign,
)
from tests.live import Buyer, LiveServer, make_settings, start_server
from tests.payments.facilitators import (
    KEY_ID,
    Listening,
    OnlyWithToken,
    listening,
    sample,
)


@pytest.fixture
async def facilitator(chain: LocalChain) -> AsyncIterator[SampleFacilitator]:
    async with sample(chain) as one:
        yield one


@pytest.fixture
async def there(facilitator: SampleFacilitator) -> AsyncIterator[Listening]:
    async with listening(facilitator.app) as one:
        yield one


@pytest.fixture
async def shop(
    database_url: str, chain: LocalChain, there: Listening, free_port: int
) -> AsyncIterator[LiveServer]:
    """Without any relayer; its audit must pass when the test is over."""
    settings = make_settings(
        database_url,
        chain.url,
        free_port,
        relayer_keys=(),
        facilitator_url=there.url,
        settle_wait=4,
    )
    live = await start_server(settings)
    try:
        yield live
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


async def test_a_stock_client_pays_by_the_facilitator_and_is_answered_at_once(
    shop: LiveServer, chain: LocalChain, facilitator: SampleFacilitator
) -> None:
    buyer = Buyer(await funded(chain, 1))
    async with buyer.client(shop) as client:
        answers = [await client.get(ANALYST) for _ in range(3)]
    assert [one.status_code for one in answers] == [200, 200, 200]
    told = decode(answers[0].headers["PAYMENT-RESPONSE"])
    (settled,) = facilitator.settled.values()
    assert told["transaction"] == f"0x{settled.hex()}"
    assert answers[-1].headers["credits-remaining"] == "7"
    assert await count(shop, "relayed_transaction") == 0
    assert len(facilitator.asked) == 1


@ON_SQLITE
@pytest.mark.parametrize("version", [1, 2])
async def test_both_versions_are_settled_by_it(
    shop: LiveServer, chain: LocalChain, facilitator: SampleFacilitator, version: int
) -> None:
    async with httpx.AsyncClient(base_url=shop.url, timeout=60) as http:
        payment = sign(await funded(chain), await offer_of(http, version=version))
        answer = await http.get(ANALYST, headers=payment.headers)
    assert answer.status_code == 200, answer.text
    assert len(facilitator.asked) == 1


@ON_SQLITE
@pytest.mark.parametrize(
    "lie",
    [
        Lie.FAILED_THOUGH_SETTLED,
        Lie.BAD_GATEWAY,
        Lie.SETTLES_AND_HANGS,
        Lie.PENDING_IN_500,
        Lie.WRONG_PAYER,
        Lie.WRONG_AMOUNT,
    ],
)
async def test_whoever_has_paid_is_answered_whatever_it_says(
    shop: LiveServer, chain: LocalChain, facilitator: SampleFacilitator, lie: Lie
) -> None:
    """Its signer proves that it settled because we asked."""
    buyer = Buyer(await funded(chain, 1))
    facilitator.lies[buyer.address] = lie
    async with buyer.client(shop) as client:
        answer = await client.get(ANALYST)
    assert answer.status_code == 200, answer.text
    assert answer.headers["credits-remaining"] == "9"
    await serve_honest_payer(shop, chain)


@ON_SQLITE
@pytest.mark.parametrize("lie", [Lie.RANDOM_HASH, Lie.VALID_THEN_FAILS, Lie.HANGS])
async def test_nobody_is_asked_to_pay_twice_while_nobody_knows(
    shop: LiveServer, chain: LocalChain, facilitator: SampleFacilitator, lie: Lie
) -> None:
    """202, then 409 for its copies; an honest payer is served meanwhile."""
    wallet = await funded(chain, 1)
    facilitator.lies[bytes.fromhex(wallet.address[2:])] = lie
    async with httpx.AsyncClient(base_url=shop.url, timeout=60) as http:
        payment = sign(wallet, await offer_of(http))
        for status in (202, 409, 409):
            answer = await http.get(ANALYST, headers=payment.headers)
            assert answer.status_code == status, answer.text
            assert "payment-required" not in answer.headers
    await serve_honest_payer(shop, chain)
    assert await count(shop, "credit_grant") == 1


@ON_SQLITE
async def test_without_its_facilitator_no_payment_is_taken_and_readyz_says_why(
    database_url: str, chain: LocalChain, free_port: int
) -> None:
    settings = make_settings(
        database_url,
        chain.url,
        free_port,
        relayer_keys=(),
        facilitator_url="http://127.0.0.1:9",
    )
    live = await start_server(settings)
    try:
        async with httpx.AsyncClient(base_url=live.url, timeout=60) as http:
            ready = (await http.get("/readyz")).json()
            assert ready["takes_payments"] is False
            assert ready["reason"].startswith("the facilitator gives no answer")
            payment = sign(await funded(chain), await offer_of(http))
            answer = await http.get(ANALYST, headers=payment.headers)
            assert answer.status_code == 503
            assert await count(live, "claim") == 0
    finally:
        await live.stop()


@ON_SQLITE
async def test_coinbases_token_is_sent_with_each_request(
    database_url: str,
    chain: LocalChain,
    facilitator: SampleFacilitator,
    free_port: int,
) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    raw = key.private_bytes_raw() + key.public_key().public_bytes_raw()
    secret = base64.b64encode(raw).decode()
    guarded = OnlyWithToken(facilitator.app, key.public_key())
    async with listening(guarded) as there:
        settings = make_settings(
            database_url,
            chain.url,
            free_port,
            relayer_keys=(),
            facilitator_url=there.url,
            facilitator_cdp_key_id=KEY_ID,
            facilitator_cdp_key_secret=secret,
        )
        live = await start_server(settings)
        try:
            assert secret not in repr(settings) + repr(live.gate)
            await serve_honest_payer(live, chain)
        finally:
            await live.stop()
    assert len(guarded.tokens) == len(set(guarded.tokens)) >= 2
