"""A server or chain that does not keep to the story breaks it."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from tallystick.chain.local import LocalChain
from tallystick.demo.clients import Reply, StockClient
from tallystick.demo.errors import StoryBroke
from tallystick.demo.offers import read_offer
from tallystick.demo.shopping import Shopper
from tallystick.demo.stage import Stage
from tallystick.demo.telling import Record, Teller
from tallystick.demo.wallet import Wallet

ONE_CREDIT = 1_000_000
WAIVED = {"success": True, "transaction": "", "amount": "0"}
SETTLED = {"success": True, "transaction": "0x" + "ab" * 32, "amount": "1000000"}


@pytest.fixture
def shopper(chain: LocalChain, tmp_path: Path) -> Shopper:
    buyers = (Wallet.new(), Wallet.new())
    nobody: Any = None
    stage = Stage(
        tmp_path,
        chain,
        "",
        {},
        nobody,
        nobody,
        Wallet.new(),
        buyers,
        newcomer=Wallet.new(),
        tokens=[],
    )
    client = StockClient("a client", ("false",))
    teller = Teller(Console(quiet=True))
    return Shopper(
        stage, teller, Record(), client, buyers[0], Decimal("0.1"), credits=5_000_000
    )


def reply(payment: dict[str, Any] | None, charged: str, remaining: str) -> Reply:
    headers = {"credits-charged": charged, "credits-remaining": remaining}
    return Reply(200, (), payment, headers)


async def test_what_adds_up_is_noted(shopper: Shopper) -> None:
    assert await shopper._served("x", reply(WAIVED, "1", "4"), ONE_CREDIT) == 0
    assert shopper.credits == 4_000_000
    assert shopper.record.calls == [
        {"feature": "x", "status": 200, "charged": 1, "remaining": 4}
    ]


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(reply(WAIVED, "2", "3"), id="charges too much"),
        pytest.param(reply(WAIVED, "1", "3"), id="has less left than it should"),
        pytest.param(reply(None, "1", "4"), id="says nothing of the payment"),
        pytest.param(reply(WAIVED | {"success": False}, "1", "4"), id="not taken"),
        pytest.param(
            reply(WAIVED | {"transaction": "0xab"}, "1", "4"), id="waived and sent"
        ),
        pytest.param(reply(SETTLED, "1", "14"), id="not on the chain"),
        pytest.param(Reply(402), id="asks for more"),
        pytest.param(Reply(error="no answer"), id="no answer"),
    ],
)
async def test_a_reply_that_does_not_add_up_breaks_the_story(
    shopper: Shopper, told: Reply
) -> None:
    with pytest.raises(StoryBroke):
        await shopper._served("x", told, ONE_CREDIT)
    assert shopper.record.calls == []
    assert shopper.record.payments == []


async def test_a_client_that_says_nothing_breaks_the_story(shopper: Shopper) -> None:
    with pytest.raises(StoryBroke, match="ended early"):
        await shopper._ask("/")


def test_a_price_that_is_not_asked_for_breaks_the_story() -> None:
    request = httpx.Request("GET", "http://127.0.0.1/features/x")
    with pytest.raises(StoryBroke, match="200 where 402"):
        read_offer(httpx.Response(200, request=request))
