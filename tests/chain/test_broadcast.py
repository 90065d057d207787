"""Sending signed bytes: as often as needed, and what the answers mean."""

import pytest
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from hexbytes import HexBytes

from tallystick.chain import relay
from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.fault import DropBefore, ErrorAnswer, FaultProxy, Rewrite
from tallystick.chain.fees import Fees, _read_fees
from tallystick.chain.hexadecimal import Garbage
from tallystick.chain.local import LocalChain
from tallystick.chain.relay import Outcome
from tallystick.chain.rpc import Chain
from tests.chain.payer import RELAYER, RELAYER_KEY, Payer, mined

FEES = Fees(3 * 10**9, 10**9)


def signed(chain: Chain, nonce: int = 0, fees: Fees = FEES) -> relay.SignedTransaction:
    return relay.sign_filler(chain, RELAYER_KEY, nonce, fees)


async def outcome(chain: Chain, transaction: relay.SignedTransaction) -> Outcome:
    return (await relay.broadcast(chain, transaction.raw)).outcome


def test_what_is_signed_is_a_fee_market_call_of_the_token_without_ether() -> None:
    chain = Chain(["http://127.0.0.1:9"], chain_id=84532, token=b"\x07" * 20)
    transaction = relay.sign_transaction(
        chain, RELAYER_KEY, 5, b"\x01\x02", gas=90_000, fees=FEES
    )
    fields = TypedTransaction.from_bytes(HexBytes(transaction.raw)).as_dict()

    assert (fields["type"], fields["chainId"], fields["nonce"]) == (2, 84532, 5)
    assert (fields["gas"], fields["value"]) == (90_000, 0)
    assert (bytes(fields["to"]), bytes(fields["data"])) == (b"\x07" * 20, b"\x01\x02")
    assert fields["maxFeePerGas"] == FEES.max_fee_per_gas
    assert fields["maxPriorityFeePerGas"] == FEES.max_priority_fee_per_gas
    sender = Account.recover_transaction(transaction.raw)
    assert bytes.fromhex(sender[2:]) == RELAYER


def test_the_raw_bytes_are_not_shown_where_a_transaction_is_printed() -> None:
    chain = Chain(["http://127.0.0.1:9"], chain_id=1, token=b"\x07" * 20)
    transaction = signed(chain)
    assert transaction.raw.hex()[:40] not in repr(transaction)
    assert repr(transaction.raw)[2:30] not in repr(transaction)


async def test_sending_again_is_harmless_and_recognised(
    local: LocalChain, chain: Chain
) -> None:
    await local.set_automine(on=False)
    transaction = signed(chain)

    assert await outcome(chain, transaction) is Outcome.ACCEPTED
    assert await outcome(chain, transaction) is Outcome.ALREADY_KNOWN
    await local.mine()
    assert await outcome(chain, transaction) is Outcome.NONCE_TOO_LOW
    assert (await mined(chain, transaction.hash)).succeeded


async def test_a_replacement_must_pay_more_for_the_same_nonce(
    local: LocalChain, chain: Chain
) -> None:
    await local.set_automine(on=False)
    await relay.broadcast(chain, signed(chain).raw)
    same_price = relay.sign_transaction(
        chain, RELAYER_KEY, 0, b"", gas=90_000, fees=FEES
    )

    assert await outcome(chain, same_price) is Outcome.UNDERPRICED
    second = signed(chain, fees=FEES.bumped())
    assert await outcome(chain, second) is Outcome.ACCEPTED
    await local.mine()
    assert (await mined(chain, second.hash)).succeeded


async def test_a_poor_relayer_and_a_low_fee_are_told_apart(
    local: LocalChain, chain: Chain
) -> None:
    low = Fees(1, 1)
    assert await outcome(chain, signed(chain, fees=low)) is Outcome.UNDERPRICED
    await local.give_gas(RELAYER, 1)
    assert await outcome(chain, signed(chain)) is Outcome.INSUFFICIENT_FUNDS


async def test_a_transaction_for_another_chain_is_refused_with_the_nodes_words(
    local: LocalChain, chain: Chain
) -> None:
    other = Chain([local.url], chain_id=1, token=local.token)
    found = await relay.broadcast(chain, signed(other).raw)
    assert found.outcome is Outcome.REFUSED
    assert "chain id" in found.text


async def test_without_an_answer_the_outcome_is_unknown(local: LocalChain) -> None:
    async with FaultProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url)
        proxy.inject("eth_sendRawTransaction", DropBefore(times=1))
        with pytest.raises(RpcUnavailable):
            await relay.broadcast(chain, signed(chain).raw)

        lie = Rewrite(change=lambda _: "0x" + "00" * 32, times=1)
        proxy.inject("eth_sendRawTransaction", lie)
        with pytest.raises(RpcUnavailable):
            await relay.broadcast(chain, signed(chain).raw)
        await chain.close()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("already known", Outcome.ALREADY_KNOWN),
        ("transaction already imported", Outcome.ALREADY_KNOWN),
        ("ALREADY_EXISTS: already known", Outcome.ALREADY_KNOWN),
        ("AlreadyKnown", Outcome.ALREADY_KNOWN),
        ("known transaction: 0x12", Outcome.ALREADY_KNOWN),
        ("nonce too low: next nonce 5, tx nonce 4", Outcome.NONCE_TOO_LOW),
        ("OldNonce, Current nonce: 5", Outcome.NONCE_TOO_LOW),
        ("replacement transaction underpriced", Outcome.UNDERPRICED),
        ("transaction underpriced: tip needed 1, tip permitted 0", Outcome.UNDERPRICED),
        ("max fee per gas less than block base fee: address 0x", Outcome.UNDERPRICED),
        ("FeeTooLow, EffectivePriorityFeePerGas too low", Outcome.UNDERPRICED),
        ("insufficient funds for gas * price + value", Outcome.INSUFFICIENT_FUNDS),
        ("intrinsic gas too low", Outcome.REFUSED),
        ("nonce too high", Outcome.REFUSED),
        ("txpool is full", Outcome.REFUSED),
    ],
)
async def test_each_client_says_it_in_its_own_words(
    local: LocalChain, words: str, expected: Outcome
) -> None:
    async with FaultProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url)
        refusal = ErrorAnswer(code=-32000, message=words)
        proxy.inject("eth_sendRawTransaction", refusal)
        found = await relay.broadcast(chain, signed(chain).raw)
        await chain.close()
    assert (found.outcome, found.text) == (expected, words)


async def test_fees_follow_the_chain(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    await payer.settle(chain, *payer.authorize())
    found = await relay.fees(chain)

    history = await local.rpc("eth_feeHistory", "0x1", "latest", [])
    coming = int(history["baseFeePerGas"][-1], 16)
    tip = found.max_priority_fee_per_gas
    assert tip >= 1_000_000
    assert found.max_fee_per_gas == 2 * coming + tip


def test_the_tip_is_the_median_of_what_was_taken_and_never_nothing() -> None:
    bases = ["0x64", "0xc8"]
    rewards = [["0x0"], ["0x1c9c380"], ["0x2faf080"], ["0x4c4b40"]]
    assert _read_fees({"baseFeePerGas": bases, "reward": rewards}) == Fees(
        400 + 30_000_000, 30_000_000
    )
    for silent in ({}, {"reward": None}, {"reward": [["0x0"]]}):
        found = _read_fees({"baseFeePerGas": bases, **silent})
        assert found.max_priority_fee_per_gas == 1_000_000


@pytest.mark.parametrize(
    "history",
    [None, {}, {"baseFeePerGas": []}, {"baseFeePerGas": [1]}, {"baseFeePerGas": "0x1"}],
)
def test_a_history_without_base_fees_is_garbage(history: object) -> None:
    with pytest.raises(Garbage):
        _read_fees(history)


def test_a_bump_is_always_more_than_a_tenth() -> None:
    for fees in (FEES, Fees(1, 1), Fees(7, 3)):
        bumped = fees.bumped()
        assert bumped.max_fee_per_gas * 10 > fees.max_fee_per_gas * 11
        assert bumped.max_priority_fee_per_gas * 10 > fees.max_priority_fee_per_gas * 11
