"""Operators pay back from the command line, beside a process that pays and watches."""

import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tallystick.chain.local import KEYS
from tallystick.kernel.ids import encode_id
from tallystick.payments.models.topups import TopUp
from tallystick.payments.paybacks.paying import pay_out
from tallystick.payments.rail import Relayer
from tests.house import DOLLAR, House, Wallet
from tests.payments.paybacks.scenes import Shop
from tests.processes import Ended, run
from tests.test_cli import require_refusal

ANN, BOB = ("--operator", "ann"), ("--operator", "bob")
WHY = ("--reason", "asked for by mail")
Payback = Callable[..., Awaitable[Ended]]


@pytest.fixture
def payback(shop: Shop, house: House, float_key: Relayer, tmp_path: Path) -> Payback:
    """``tallystick payback …`` on the shop's books; it never tells the float's key."""
    settings = {
        "DATABASE_URL": house.database_url,
        "RPC_URLS": shop.local.url,
        "PAY_TO": f"0x{house.pay_to.hex()}",
        "RELAYER_KEYS": f"0x{KEYS[1].hex()}",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "PAYBACK_KEY": f"0x{float_key.key.hex()}",
        "PAYBACK_APPROVAL_ABOVE": "2",
    }

    async def work(*arguments: str) -> Ended:
        ended = await run("payback", *arguments, cwd=tmp_path, **settings)
        assert float_key.key.hex() not in ended.said
        return ended

    return work


async def told(payback: Payback, *arguments: str) -> dict[str, Any]:
    ended = await payback(*arguments, "--json")
    assert ended.code == 0, ended.said
    found: dict[str, Any] = json.loads(ended.out)
    return found


async def test_from_the_proposal_to_the_money(
    shop: Shop, topup: TopUp, payback: Payback, wallet: Wallet
) -> None:
    name = encode_id("top", topup.id)
    part = await told(payback, "propose", name, *ANN, *WHY, "--credits", "2.5")
    assert (part["credits"], part["usdc"], part["state"]) == (2.5, 0.25, "approved")
    rest = await told(payback, "propose", name, *ANN, *WHY)
    assert (rest["usdc"], rest["state"]) == (4.75, "proposed")
    require_refusal(await payback("propose", name, *ANN, *WHY), "Nothing of it")
    require_refusal(await payback("approve", rest["id"], *ANN), "second operator")
    assert (await told(payback, "approve", rest["id"], *BOB))["approved_by"] == "bob"

    paid = await told(payback, "pay", part["id"], *ANN)
    assert (paid["state"], paid["way"]) == ("issued", "float")
    await pay_out(shop.process.db, shop.process.rail)
    await shop.finalized()
    shown = await payback("show", part["id"])
    assert "state         paid" in shown.out
    assert await shop.dollars(wallet.address) == 95_250_000
    listed = await told(payback, "list")
    assert [one["id"] for one in listed["paybacks"]] == [rest["id"], part["id"]]
    assert len((await told(payback, "list", "--state", "paid"))["paybacks"]) == 1


async def test_a_page_a_signature_and_a_change_of_mind(
    shop: Shop, topup: TopUp, payback: Payback, tmp_path: Path
) -> None:
    made = await shop.propose(topup)
    name, page = encode_id("pbk", made.id), tmp_path / "sign.html"
    done = await payback("page", name, *ANN, "--out", str(page))
    assert done.code == 0, done.said
    assert name in page.read_text()
    again = await payback("page", name, *ANN, "--out", str(page))
    require_refusal(again, "exists")
    require_refusal(await payback("sign", name, "0x12"), "does not fit")
    signature = shop.signature(await shop.payback(made))
    signed = await told(payback, "sign", name, f"0x{signature.hex()}")
    assert signed["is_signed"] is True
    assert signature.hex() not in json.dumps(signed)
    require_refusal(await payback("cancel", name, *BOB, *WHY), "valid until")


async def test_a_batch_is_written_once_and_is_what_a_safe_takes(
    shop: Shop, topup: TopUp, payback: Payback, tmp_path: Path
) -> None:
    made = [await shop.propose(topup, 10 * DOLLAR) for _ in range(2)]
    names = [encode_id("pbk", one.id) for one in made]
    first, second = (tmp_path / name for name in ("one.json", "two.json"))
    done = await payback("batch", *names, *ANN, "--out", str(first))
    assert "2 transfers" in done.out
    other = await payback("batch", *names, *ANN, "--out", str(second))
    require_refusal(other, "is issued")
    assert not second.exists()
    await payback("batch", *names, *ANN, "--again", "--out", str(second))
    batch = json.loads(second.read_text())
    assert batch["transactions"] == json.loads(first.read_text())["transactions"]
    hashes = await shop.execute(batch)
    named = await told(payback, "executed", names[1], f"0x{hashes[0].hex()}")
    assert named["state"] == "issued"
    await shop.finalized()
    assert (await shop.payback(made[1])).tx_hash == hashes[0]
    assert (await shop.payback(made[0])).tx_hash == hashes[1]


async def test_the_commands_say_what_they_want(
    payback: Payback, tmp_path: Path
) -> None:
    nobody = "pbk_0000000000007"
    require_refusal(await payback("show", nobody), "names no payback")
    batch = tmp_path / "batch.json"
    refused = await payback("batch", nobody, *ANN, "--out", str(batch))
    require_refusal(refused, "names no payback")
    assert not batch.exists()
    assert "--operator" in (await payback("propose", "top_0000000000007")).err
    assert "hexadecimal" in (await payback("sign", nobody, "0xzz")).err
