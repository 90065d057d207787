"""The features that are sold, on real contracts, honest and hostile."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.chain import abi
from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.fault import Delay, ErrorAnswer, FaultProxy
from tallystick.chain.local import ADDRESSES, OWNER, LocalChain, artifact
from tallystick.kernel.money import UsdcAtomic
from tallystick.samples.context import (
    FeatureContext,
    FeatureTimedOut,
    InvalidFeatureArgument,
    show_address,
)
from tallystick.samples.contract import ContractFacts, as_text, show_amount
from tallystick.samples.onchain import (
    ai_analyst,
    honeypot_check,
    portfolio_audit,
    risk_score,
)
from tallystick.samples.rules import judge
from tests.chain.bytecode import answering

ALICE, BOB, POOL = ADDRESSES[1], ADDRESSES[2], ADDRESSES[3]
TOKEN = bytes.fromhex("70ce" * 10)
Feature = Callable[..., Awaitable[Any]]


def text(address: bytes) -> str:
    return "0x" + address.hex()


async def trade(local: LocalChain, *buyers: bytes) -> None:
    """A pool sells a few dollars."""
    await local.mint(POOL, UsdcAtomic(10_000_000))
    for buyer in buyers:
        call = abi.selector("transfer(address,uint256)") + abi.word(buyer)
        await local.send(POOL, local.token, call + abi.word(2_500_000))


async def test_a_dollar_that_everybody_can_pass_on_is_clear(
    local: LocalChain, context: FeatureContext
) -> None:
    await trade(local, ALICE, BOB)
    report = await honeypot_check(context, token=text(local.token))

    assert report["verdict"] == "clear"
    assert (report["holders_tried"], report["holders_stuck"]) == (2, 0)
    assert report["notes"] == []


async def test_a_token_whose_holders_cannot_move_it_is_a_honeypot(
    local: LocalChain, context: FeatureContext
) -> None:
    await trade(local, ALICE, BOB)
    for held in (ALICE, BOB):
        call = abi.selector("blacklist(address)") + abi.word(held)
        await local.send(OWNER, local.token, call)
        report = await honeypot_check(context, token=text(local.token))
        expected = "suspicious" if held is ALICE else "honeypot"
        assert report["verdict"] == expected


async def test_a_pause_stops_everybody_and_is_told_from_a_trap(
    local: LocalChain, context: FeatureContext
) -> None:
    await trade(local, ALICE)
    await local.send(OWNER, local.token, abi.selector("pause()"))
    report = await honeypot_check(context, token=text(local.token))
    assert (report["verdict"], report["holders_stuck"]) == ("suspicious", 1)
    assert "paused" in report["notes"][0]


async def test_only_who_still_holds_it_is_tried(
    local: LocalChain, context: FeatureContext
) -> None:
    await trade(local, ALICE)
    onwards = abi.selector("transfer(address,uint256)") + abi.word(BOB)
    await local.send(ALICE, local.token, onwards + abi.word(2_500_000))
    report = await honeypot_check(context, token=text(local.token))
    assert (report["verdict"], report["holders_tried"]) == ("clear", 1)


@pytest.mark.parametrize(("answer", "verdict"), [(1, "clear"), (2, "honeypot")])
async def test_a_transfer_that_does_not_say_true_has_failed(
    local: LocalChain, context: FeatureContext, answer: int, verdict: str
) -> None:
    bought = ([abi.TRANSFER, abi.word(POOL), abi.word(ALICE)], 5)
    await local.plant(TOKEN, answering(answer, bought))
    await local.send(POOL, TOKEN)
    report = await honeypot_check(context, token=text(TOKEN))
    assert (report["verdict"], report["holders_tried"]) == (verdict, 1)


async def test_no_contract_is_called_without_a_limit_on_its_gas(
    local: LocalChain,
) -> None:
    await trade(local, ALICE)
    limits: list[int] = []

    class WatchingProxy(FaultProxy):
        async def _answer_one(self, request: dict[str, Any]) -> dict[str, Any]:
            if request["method"] == "eth_call":
                limits.append(int(request["params"][0]["gas"], 16))
            return await super()._answer_one(request)

    async with WatchingProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url)
        context = FeatureContext(chain)
        await honeypot_check(context, token=text(local.token))
        await ai_analyst(context, address=text(local.token))
        await portfolio_audit(context, owner=GOOD, tokens=[text(local.token)])
        await chain.close()

    assert len(limits) > 15
    assert max(limits) <= 300_000


async def test_without_buyers_nothing_is_claimed(
    local: LocalChain, context: FeatureContext
) -> None:
    report = await honeypot_check(context, token=text(local.token))
    assert (report["verdict"], report["holders_tried"]) == ("unknown", 0)


async def test_the_powers_of_the_tokens_keeper_make_its_risk(
    local: LocalChain, context: FeatureContext
) -> None:
    report = await risk_score(context, token=text(local.token))

    assert (report["name"], report["symbol"]) == ("USDC", "USDC")
    assert report["owner"] == show_address(OWNER)
    assert not report["is_upgradeable"]
    assert report["risk"]["level"] == "medium"
    assert report["risk"]["score"] == 15 + 15 + 15 + 10
    assert any("frozen" in finding for finding in report["risk"]["findings"])


@pytest.mark.parametrize("kind", ["EIP-1967", "EIP-1167"])
async def test_behind_a_proxy_the_real_code_is_judged(
    local: LocalChain, context: FeatureContext, kind: str
) -> None:
    clone = (
        "363d3d373d3d3d363d73" + local.token.hex() + "5af43d82803e903d91602b57fd5bf3"
    )
    await local.plant(TOKEN, bytes.fromhex(clone))
    if kind == "EIP-1967":
        slot = 0x360894A13BA1A3210667C828492DB98DCA3E2076CC3735A920A3CA505D382BBC
        prefix = "3d3d3d3d363d3d37363d73"  # another preamble, so only the slot tells
        code = prefix + local.token.hex() + "5af43d3d93803e602a57fd5bf3"
        await local.plant(TOKEN, bytes.fromhex(code))
        await local.write_storage(TOKEN, slot, local.token)

    report = await risk_score(context, token=text(TOKEN))

    assert report["is_upgradeable"]
    assert "More of it can be made at will." in report["risk"]["findings"]


async def test_the_analyst_tells_wallet_contract_and_token_apart(
    local: LocalChain, context: FeatureContext
) -> None:
    await trade(local, ALICE)
    await local.give_gas(ALICE, 15 * 10**17)
    await local.plant(TOKEN, artifact("HostileWallet"))

    wallet = await ai_analyst(context, address=text(ALICE))
    contract = await ai_analyst(context, address=text(TOKEN))
    token = await ai_analyst(context, address=text(local.token))

    assert (wallet["kind"], wallet["risk"], wallet["notes"]) == ("wallet", None, [])
    assert wallet["native_balance_wei"] == str(15 * 10**17)
    assert wallet["recent_transfers"] == 1
    assert "It holds 1.5 ether." in wallet["report"]
    assert contract["kind"] == "contract"
    assert contract["risk"]
    assert contract["risk"]["level"] == "high"
    assert (token["kind"], token["decimals"]) == ("token", 6)
    assert token["total_supply"] == "10000000"
    assert token["recent_transfers"] == 2
    assert token["is_paused"] is False
    assert "10 issued" in token["report"]
    json.dumps([wallet, contract, token])


async def test_a_portfolio_has_a_line_for_each_token_in_order(
    local: LocalChain, context: FeatureContext
) -> None:
    await trade(local, ALICE)
    await local.plant(TOKEN, bytes.fromhex("60006000fd"))
    tokens = [text(BOB), text(local.token), text(TOKEN)]

    report = await portfolio_audit(context, owner=text(ALICE), tokens=tokens)

    nothing, dollar, broken = report["holdings"]
    assert [nothing["token"], dollar["token"], broken["token"]] == [
        show_address(BOB),
        show_address(local.token),
        show_address(TOKEN),
    ]
    assert (dollar["balance"], dollar["amount"]) == ("2500000", "2.5")
    assert (nothing["balance"], broken["balance"]) == (None, None)
    assert nothing["notes"] == ["There is no contract at this address."]
    assert (report["tokens_held"], report["high_risk_tokens"]) == (1, 2)
    json.dumps(report)
    poor = await portfolio_audit(context, owner=text(BOB), tokens=tokens)
    assert poor["holdings"][1]["balance"] == "0"
    assert poor["tokens_held"] == 0


def test_only_functions_that_can_be_called_count_as_powers() -> None:
    mint = abi.selector("mint(address,uint256)")
    facts = ContractFacts(
        address=TOKEN, code=b"\x60" + mint, decimals=6, supply=1, owner=ALICE
    )
    assert judge(facts) == {"score": 0, "level": "low", "findings": []}
    able = judge(replace(facts, code=b"\x63" + mint))
    assert able["score"] == 25
    assert (able["level"], len(able["findings"])) == ("medium", 2)
    given_up = judge(replace(facts, code=b"\x63" + mint, owner=bytes(20)))
    assert given_up["score"] == 15


HOSTILE = {
    "reverts": "60006000fd",
    "stops": "00",
    "loops": "5b600056",
    "invalid": "fe",
    "one byte": "60016000f3",
    "a word of ones": "600019600052" + "60206000f3",
    "a megabyte": "62100000" + "6000f3",
    "300 kilobytes": "6204b000" + "6000f3",
    "16 megabytes": "63ffffffff" + "6000f3",
    "a text without end": "7f" + "ff" * 32 + "60005260406000f3",
    "a text that is too long": (
        "602060005261ffff602052" + "7f" + "41" * 32 + "604052620100406000f3"
    ),
    "no utf-8": "60206000526002602052" + "7ffffe" + "00" * 30 + "60405260606000f3",
    "reverts with a megabyte": "62100000" + "6000fd",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_token_gives_notes_and_never_an_exception(
    local: LocalChain, context: FeatureContext, code: str
) -> None:
    await local.plant(TOKEN, bytes.fromhex(code))
    shown = text(TOKEN)

    honeypot = await honeypot_check(context, token=shown)
    risk = await risk_score(context, token=shown)
    report = await ai_analyst(context, address=shown)
    portfolio = await portfolio_audit(context, owner=text(ALICE), tokens=[shown])

    everything = json.dumps([honeypot, risk, report, portfolio])
    assert len(everything) < 10_000
    assert risk["notes"]
    assert honeypot["verdict"] in ("not_a_token", "unknown")


@pytest.mark.parametrize("address", [BOB, bytes(20), bytes(19) + b"\x01", b"\xff" * 20])
async def test_an_address_without_a_contract_is_no_error(
    context: FeatureContext, address: bytes
) -> None:
    shown = text(address)
    assert (await honeypot_check(context, token=shown))["verdict"] == "not_a_token"
    assert (await risk_score(context, token=shown))["risk"]["level"] == "high"
    await ai_analyst(context, address=shown)
    await portfolio_audit(context, owner=shown, tokens=[shown])


GOOD = text(ALICE)


@pytest.mark.parametrize(
    ("feature", "arguments", "field"),
    [
        (honeypot_check, {"token": "0x12"}, "token"),
        (honeypot_check, {"token": None}, "token"),
        (risk_score, {"token": GOOD + "\n"}, "token"),
        (risk_score, {"token": GOOD.replace("0x", "")}, "token"),
        (ai_analyst, {"address": 7}, "address"),
        (ai_analyst, {"address": show_address(ALICE).swapcase()}, "address"),
        (
            ai_analyst,
            {"address": "0xFb6916095ca1df60bB79Ce92cE3Ea74c37c5d359"},
            "address",
        ),
        (portfolio_audit, {"owner": "x", "tokens": [GOOD]}, "owner"),
        (portfolio_audit, {"owner": GOOD, "tokens": GOOD}, "tokens"),
        (portfolio_audit, {"owner": GOOD, "tokens": []}, "tokens"),
        (portfolio_audit, {"owner": GOOD, "tokens": [GOOD] * 101}, "tokens"),
        (portfolio_audit, {"owner": GOOD, "tokens": [GOOD, "0x"]}, "tokens[1]"),
        (
            portfolio_audit,
            {"owner": GOOD, "tokens": [GOOD, GOOD.upper().replace("X", "x")]},
            "tokens[1]",
        ),
    ],
)
async def test_a_bad_argument_is_named_before_anything_is_read(
    feature: Feature, arguments: dict[str, Any], field: str
) -> None:
    nowhere: Any = None
    with pytest.raises(InvalidFeatureArgument) as caught:
        await feature(FeatureContext(nowhere), **arguments)
    assert caught.value.members == {"field": field}
    assert (caught.value.status, field in caught.value.detail) == (422, True)


@pytest.mark.parametrize(
    ("feature", "arguments"),
    [
        (honeypot_check, {"token": GOOD}),
        (risk_score, {"token": GOOD}),
        (ai_analyst, {"address": GOOD}),
        (portfolio_audit, {"owner": GOOD, "tokens": [GOOD, text(BOB), text(POOL)]}),
    ],
)
async def test_without_a_chain_no_report_is_made_up(
    local: LocalChain, feature: Feature, arguments: dict[str, Any]
) -> None:
    async with FaultProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url)
        await chain.block("latest")
        await proxy.down()
        with pytest.raises(RpcUnavailable):
            await feature(FeatureContext(chain), **arguments)
        await proxy.up()
        proxy.inject("eth_getCode", Delay(seconds=30))
        slow = FeatureContext(chain, timeout_seconds=0.2)
        with pytest.raises(FeatureTimedOut):
            await feature(slow, **arguments)
        await chain.close()


async def test_a_hundred_tokens_are_read_a_few_at_a_time(local: LocalChain) -> None:
    running = most = 0

    class CountingProxy(FaultProxy):
        async def _answer_one(self, request: dict[str, Any]) -> dict[str, Any]:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            try:
                return await super()._answer_one(request)
            finally:
                running -= 1

    tokens = [text(index.to_bytes(20, "big")) for index in range(1, 100)]
    async with CountingProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url)
        context = FeatureContext(chain, at_once=3)
        report = await portfolio_audit(
            context, owner=GOOD, tokens=[*tokens, text(local.token)]
        )
        await chain.close()

    assert len(report["holdings"]) == 100
    assert report["holdings"][-1]["symbol"] == "USDC"
    assert 2 <= most <= 3 * 4


async def test_a_node_that_finds_the_range_too_wide_is_asked_for_less(
    local: LocalChain,
) -> None:
    await trade(local, ALICE)
    await local.mine(20)
    async with FaultProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url)
        context = replace(FeatureContext(chain), recent_blocks=400)
        limit = ErrorAnswer(code=-32005, message="too many results", times=1)
        proxy.inject("eth_getLogs", limit)
        narrowed = await ai_analyst(context, address=text(local.token))
        proxy.inject("eth_getLogs", replace(limit, times=None))
        refused = await ai_analyst(context, address=text(local.token))
        await chain.close()

    assert 0 < narrowed["blocks_searched"] < 20
    assert (refused["blocks_searched"], refused["recent_transfers"]) == (0, 0)


@given(st.integers(0, 2**256 - 1), st.integers(0, 255))
def test_amounts_are_shown_exactly(atomic: int, decimals: int) -> None:
    whole, _, fraction = show_amount(atomic, decimals).partition(".")
    assert int(whole + fraction.ljust(decimals, "0")) == atomic
    assert not fraction.endswith("0")


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (b"MKR".ljust(32, b"\0"), "MKR"),
        (bytes(32), None),
        (b"", None),
        (abi.word(32) + abi.word(0), None),
        (abi.word(32) + abi.word(4) + b"US\nD".ljust(32, b"\0"), "US?D"),
        (abi.word(32) + abi.word(6) + "\u202eDSU".encode().ljust(32, b"\0"), "?DSU"),
        (abi.word(32) + abi.word(96) + b"A" * 96, "A" * 63 + "…"),
        (abi.word(32) + abi.word(4096) + b"A" * 4096, None),
    ],
)
def test_a_tokens_words_are_shown_short_and_visible(
    answer: bytes, shown: str | None
) -> None:
    assert as_text(answer) == shown
