"""A header whose claim the books do not have, such as after a restore, is good once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import ADDRESSES, LocalChain
from tallystick.chain.settlement import settlement_call
from tests.api.payments import (
    Payment,
    count,
    funded,
    offer_of,
    reason_of,
    refusal_of,
    sign,
)
from tests.api.shop import CATALOG
from tests.api.test_bad_input_on_chain import authorization_of
from tests.live import LiveServer, make_settings, start_server

ADD = "/api/credits/add"
PACK = {"pack": "pack_5"}
PLAIN, BONUS = 50, 7


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    """The tests' shop, where a pack brings a bonus."""
    text = Path(CATALOG).read_text()
    with_bonus = text.replace("price_usd = 5\n", f"price_usd = 5\nbonus = {BONUS}\n")
    assert with_bonus != text
    file = tmp_path / "bonus.toml"
    file.write_text(with_bonus)
    return str(file)


@pytest.fixture
async def server(
    database_url: str, chain: LocalChain, free_port: int, catalog: str
) -> AsyncIterator[LiveServer]:
    live = await start_server(
        make_settings(database_url, chain.url, free_port, catalog=catalog)
    )
    yield live
    assert (await live.audit()).findings == []
    await live.stop()


@pytest.fixture
async def http(server: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
async def wallet(chain: LocalChain) -> LocalAccount:
    return await funded(chain)


async def pay_elsewhere(
    http: httpx.AsyncClient, chain: LocalChain, wallet: LocalAccount, **signed: Any
) -> Payment:
    """A payment that is settled without these books knowing of it."""
    entry = await offer_of(http, ADD, method="POST", json=PACK)
    payment = sign(wallet, entry, **signed)
    call = settlement_call(authorization_of(payment), payment.signature)
    assert (await chain.send(ADDRESSES[5], chain.token, call)).succeeded
    return payment


async def present(http: httpx.AsyncClient, payment: Payment) -> httpx.Response:
    return await http.post(ADD, json=PACK, headers=payment.headers)


@pytest.mark.parametrize("minutes", [0, 10, 24 * 60])
async def test_the_same_header_brings_all_that_its_quote_promised_once(
    server: LiveServer,
    http: httpx.AsyncClient,
    chain: LocalChain,
    wallet: LocalAccount,
    minutes: int,
) -> None:
    """Also when its window has long closed: it was used within it."""
    payment = await pay_elsewhere(http, chain, wallet)
    await server.audit()
    server.clock.advance(minutes * 60)
    first = await present(http, payment)
    assert first.status_code == 200, first.text
    assert first.json()["added"] == PLAIN + BONUS
    for _ in range(3):
        again = await present(http, payment)
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json()["topup"] == first.json()["topup"] | {
            "state": again.json()["topup"]["state"]
        }
    await chain.mine(3)
    await server.audit()
    assert await count(server, "topup") == 1
    assert await count(server, "credit_grant") == 2, "what was paid, and the bonus"


async def test_it_may_have_been_used_in_the_last_seconds_of_its_window(
    server: LiveServer, http: httpx.AsyncClient, chain: LocalChain, wallet: LocalAccount
) -> None:
    """Too late to be settled by us, and the token has taken it."""
    payment = await pay_elsewhere(http, chain, wallet, lives=15)
    await server.audit()
    paid = await present(http, payment)
    assert paid.status_code == 200, paid.text
    assert paid.json()["added"] == PLAIN + BONUS


async def test_a_header_that_was_never_used_is_late(
    server: LiveServer, http: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    entry = await offer_of(http, ADD, method="POST", json=PACK)
    payment = sign(wallet, entry)
    server.clock.advance(600)
    assert reason_of(await present(http, payment)).startswith("invalid_")
    assert await count(server, "topup") == 0


async def test_a_quote_that_had_lapsed_when_it_was_paid_promises_nothing(
    server: LiveServer, http: httpx.AsyncClient, chain: LocalChain, wallet: LocalAccount
) -> None:
    entry = await offer_of(http, ADD, method="POST", json=PACK)
    await chain.advance(3600)
    payment = sign(wallet, entry, lives=3600 + 90)
    call = settlement_call(authorization_of(payment), payment.signature)
    assert (await chain.send(ADDRESSES[5], chain.token, call)).succeeded
    await server.audit()
    assert reason_of(await present(http, payment)) == "invalid_payment_requirements"


async def test_somebody_elses_signature_presents_nothing(
    server: LiveServer, http: httpx.AsyncClient, chain: LocalChain, wallet: LocalAccount
) -> None:
    payment = await pay_elsewhere(http, chain, wallet)
    await server.audit()
    server.clock.advance(600)
    forged = payment.signed_as(bytes(65))
    assert refusal_of(await present(http, forged))[0] in {400, 402}
    assert await count(server, "topup") == 0


async def test_a_payment_that_waits_longer_than_its_window_gets_no_402(
    database_url: str, chain: LocalChain, free_port: int, catalog: str
) -> None:
    """Its payer would pay again."""
    settings = make_settings(
        database_url,
        chain.url,
        free_port,
        catalog=catalog,
        exposure_per_customer=0,
        settle_wait=1,
    )
    live = await start_server(settings)
    async with httpx.AsyncClient(base_url=live.url, timeout=60) as http:
        wallet = await funded(chain)
        payment = sign(wallet, await offer_of(http, ADD, method="POST", json=PACK))
        first = await present(http, payment)
        assert (first.status_code, first.json()["code"]) == (202, "settlement_pending")
        live.clock.advance(600)
        again = await present(http, payment)
        assert (again.status_code, again.json()["code"]) == (202, "settlement_pending")
        live.clock.offset_ms = 0
    await live.stop()
