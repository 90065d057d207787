"""Another catalog is loaded while stock clients hold a challenge: the old one is kept.

Each test holds a 402, kills the server, starts it again with other prices, and then lets
an unmodified client sign and pay what it was offered.
"""

import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account.signers.local import LocalAccount
from x402.http.x402_http_client import x402HTTPClient
from x402.mechanisms.evm.exact import ExactEvmScheme, register_exact_evm_client
from x402.mechanisms.evm.signers import EthAccountSigner

from tallystick.chain.local import LocalChain
from tallystick.chain.token import balance_of
from tests.api.payments import ANALYST, address_of, funded
from tests.live import DOLLAR
from tests.processes import ServerProcess, run, serving
from tests.test_cli import settings_for
from x402 import x402Client

ADD = "/api/credits/add"
OLD = (Path(__file__).parents[2] / "catalogs" / "x402_credits.toml").read_text()
DEARER = OLD.replace(
    'price = 1\nhandler = "tallystick.samples.onchain:ai',
    'price = 4\nhandler = "tallystick.samples.onchain:ai',
)
CREDITS_DEARER = OLD.replace('price_usd = "0.10"', 'price_usd = "0.25"', 1)
WITHOUT_PACKS = OLD.partition("[[pack]]")[0]


async def answer_to(
    wallet: LocalAccount, answer: httpx.Response, version: int
) -> dict[str, str]:
    """The headers with which an unmodified client of this version goes on."""
    payer = x402Client()
    register_exact_evm_client(payer, wallet)
    payer.register("eip155:*", ExactEvmScheme(EthAccountSigner(wallet)))
    payer.set_spend_controls({"max_amount_per_payment": "$20"})
    headers = dict(answer.headers)
    if version == 1:
        del headers["payment-required"]  # such a client does not know the name
    client = x402HTTPClient(payer)
    paid, _ = await client.handle_402_response(
        headers, answer.content, str(answer.request.url)
    )
    assert list(paid) == [{1: "X-PAYMENT", 2: "PAYMENT-SIGNATURE"}[version]]
    return dict(paid)


def put(catalog: str, place: str) -> None:
    Path(place).write_text(catalog)


async def restart_with(server: ServerProcess, catalog: str) -> None:
    await server.end(signal.SIGKILL)
    put(catalog, server.settings["CATALOG"])
    await server.start()


@pytest.fixture
async def server(punctual: LocalChain, tmp_path: Path) -> Any:
    path = tmp_path / "catalog.toml"
    path.write_text(OLD)
    settings = settings_for(punctual, tmp_path, CATALOG=str(path))
    async with serving(tmp_path, **settings) as running:
        yield running
    audit = await run("audit", cwd=tmp_path, **settings)
    assert audit.code == 0, audit.said


@pytest.mark.parametrize("version", [1, 2])
async def test_a_dearer_call_is_served_at_the_price_that_was_offered(
    server: ServerProcess, punctual: LocalChain, version: int
) -> None:
    assert len({OLD, DEARER, CREDITS_DEARER, WITHOUT_PACKS}) == 4
    wallet, late = await funded(punctual), await funded(punctual)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        held = await http.get(ANALYST)
        await restart_with(server, DEARER)
        assert (await http.get(ANALYST)).json()["required"] == 4
        paid = await answer_to(wallet, held, version)
        served = await http.get(ANALYST, headers=paid)
        assert served.status_code == 200, served.text
        assert served.headers["credits-charged"] == "1"
        # Who asks now is told the new price, and pays it.
        fresh = await answer_to(late, await http.get(ANALYST), version)
        served = await http.get(ANALYST, headers=fresh)
        assert served.headers["credits-charged"] == "4"
    spent = 100 * DOLLAR - await balance_of(punctual.chain, address_of(wallet))
    assert spent == {1: 100_000, 2: DOLLAR}[version]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("catalog", [CREDITS_DEARER, WITHOUT_PACKS])
async def test_a_purchase_buys_what_was_offered(
    server: ServerProcess, punctual: LocalChain, version: int, catalog: str
) -> None:
    """Also for the same amount of USDC, and a pack that is not sold any more."""
    wallet, pack = await funded(punctual), {"pack": "pack_5"}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        held = await http.post(ADD, json=pack)
        await restart_with(server, catalog)
        paid = await answer_to(wallet, held, version)
        bought = await http.post(ADD, json=pack, headers=paid)
        assert bought.status_code == 200, bought.text
        assert bought.json()["added"] == 50
        again = await http.post(ADD, json=pack, headers=paid)
        assert again.json()["topup"] == bought.json()["topup"]


async def test_an_offer_ends_in_time_and_is_not_renewed(
    server: ServerProcess, punctual: LocalChain, tmp_path: Path
) -> None:
    """Minutes later the old price is nobody's any more (the note is made old here)."""
    import sqlite3

    wallet, pack = await funded(punctual), {"pack": "pack_5"}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        held = await http.get(ANALYST)
        unsold = await http.post(ADD, json=pack)
        await server.end(signal.SIGKILL)
        with sqlite3.connect(tmp_path / "tallystick.sqlite3") as connection:
            connection.execute(
                "UPDATE offered_catalog SET last_offered_ms = last_offered_ms - 331000"
            )
        connection.close()
        both = DEARER.partition("[[pack]]")[0]
        await restart_with(server, both)
        paid = await answer_to(wallet, held, 1)
        refused = await http.get(ANALYST, headers=paid)
        assert refused.status_code == 402
        assert refused.json()["accepts"][0]["maxAmountRequired"] == "400000"
        gone = await answer_to(wallet, unsold, 1)
        answer = await http.post(ADD, json=pack, headers=gone)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_pack")


async def test_a_payment_that_fits_no_offer_learns_only_what_is_sold_now(
    server: ServerProcess, punctual: LocalChain
) -> None:
    wallet, pack = await funded(punctual), {"pack": "pack_5"}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        cheap = await answer_to(wallet, await http.get(ANALYST), 1)
        await restart_with(server, WITHOUT_PACKS)
        answer = await http.post(ADD, json=pack, headers=cheap)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_pack")
    assert await balance_of(punctual.chain, address_of(wallet)) == 100 * DOLLAR
