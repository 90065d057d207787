"""The page on which the seller signs: its own script, run by node, on the real chain."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tallystick.chain.hexadecimal import octets
from tallystick.kernel.ids import encode_id
from tallystick.payments.models.paybacks import Payback, PaybackState
from tallystick.payments.models.topups import TopUp
from tallystick.payments.paybacks.issuing import hand_out, take_signature
from tallystick.payments.paybacks.page import signing_page
from tallystick.payments.paybacks.terms import authorization_of, typed_data
from tests.house import DOLLAR, Wallet
from tests.payments.paybacks.scenes import Shop

BROWSER = Path(__file__).parent / "wallet.mjs"


async def browse(page: Path, account: str, answer: str) -> dict[str, Any]:
    """What the page's script asked of the wallet, and showed."""
    node = shutil.which("node")
    if node is None and not os.environ.get("CI"):
        pytest.skip("there is no node: install Node 20")
    assert node is not None, "there is no node: install Node 20"
    child = await asyncio.create_subprocess_exec(
        *(node, str(BROWSER), str(page), account, answer),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, complaints = await child.communicate()
    assert child.returncode == 0, complaints.decode()
    found: dict[str, Any] = json.loads(told)
    return found


@pytest.fixture
async def handed(shop: Shop, topup: TopUp) -> Payback:
    payback = await shop.propose(topup)
    return await hand_out(shop.process.db, shop.process.rail, payback.id, "ann")


@pytest.fixture
def page(shop: Shop, handed: Payback, tmp_path: Path) -> Path:
    path = tmp_path / "payback.html"
    path.write_text(signing_page(shop.process.rail.domain, handed))
    return path


async def test_what_the_page_asks_and_shows_pays_back(
    shop: Shop, handed: Payback, page: Path, wallet: Wallet
) -> None:
    rail = shop.process.rail
    signature = f"0x{shop.signature(handed).hex()}"
    seen = await browse(page, f"0x{rail.pay_to.hex()}", signature)
    asked = {one["method"]: one["params"] for one in seen["asked"]}
    account, request = asked["eth_signTypedData_v4"]
    assert octets(account) == rail.pay_to
    assert json.loads(request) == typed_data(rail.domain, authorization_of(handed))
    switched = [{"chainId": hex(rail.domain.chain_id)}]
    assert asked["wallet_switchEthereumChain"] == switched
    named = encode_id("pbk", handed.id)
    assert seen["line"] == f"tallystick payback sign {named} {signature}"
    (sent,) = asked["eth_sendTransaction"]
    assert octets(sent["to"]) == rail.domain.contract
    await shop.local.send(
        octets(sent["from"]), octets(sent["to"]), octets(sent["data"])
    )
    await shop.finalized()
    assert (await shop.payback(handed)).state == PaybackState.PAID
    assert await shop.dollars(wallet.address) == 100 * DOLLAR


async def test_a_wallets_other_way_to_write_a_signature_is_sent_as_the_token_wants_it(
    shop: Shop, handed: Payback, page: Path
) -> None:
    good = shop.signature(handed)
    odd = f"0x{(good[:64] + bytes((good[64] - 27,))).hex()}"
    seen = await browse(page, f"0x{shop.process.rail.pay_to.hex()}", odd)
    (sent,) = seen["asked"][-1]["params"]
    await shop.local.send(
        octets(sent["from"]), octets(sent["to"]), octets(sent["data"])
    )
    await shop.finalized()
    assert (await shop.payback(handed)).state == PaybackState.PAID


async def test_another_account_and_no_wallet_are_told(
    shop: Shop, page: Path, wallet: Wallet
) -> None:
    seen = await browse(page, f"0x{wallet.address.hex()}", "0x")
    assert "Choose 0x" in seen["told"]
    assert [one["method"] for one in seen["asked"]] == ["eth_requestAccounts"]
    seen = await browse(page, "none", "0x")
    assert "No wallet is in this page" in seen["told"]


async def test_a_reason_stays_a_text(shop: Shop, handed: Payback) -> None:
    words = "</script><script>alert(1)</script>&"
    odd = handed.model_copy(update={"reason": words})
    page = signing_page(shop.process.rail.domain, odd)
    assert page.count("<script>") == page.count("</script>") == 1
    assert "&lt;script&gt;alert(1)" in page


async def test_the_page_holds_no_secret_and_loads_nothing(
    shop: Shop, handed: Payback, page: Path
) -> None:
    db, rail = shop.process.db, shop.process.rail
    signed = await take_signature(db, rail, handed.id, shop.signature(handed))
    assert signed.signature is not None
    text = signing_page(rail.domain, signed)
    assert signed.signature.hex() not in text
    assert "default-src 'none'" in text
    assert "http" not in text.replace('http-equiv="', "")
