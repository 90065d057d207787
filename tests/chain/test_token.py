"""What the token and its holders' wallets say, and whom we believe."""

import time

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from tallystick.chain import abi
from tallystick.chain.errors import RpcUnavailable, TokenUnreadable
from tallystick.chain.fault import Delay, ErrorAnswer, FaultProxy
from tallystick.chain.hexadecimal import Garbage, fixed, octets, quantity, to_hex
from tallystick.chain.local import LocalChain, artifact
from tallystick.chain.rpc import Chain
from tallystick.chain.token import (
    TokenFacts,
    balance_of,
    is_valid_signature,
    nonce_used,
    token_facts,
)
from tests.chain.payer import DOLLAR, STRANGER, Payer

WALLET = bytes.fromhex("1271" * 10)
DIGEST = b"\x42" * 32
DOMAINS = {  # of the real USDC, as its contracts give them
    8453: "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f",
    84532: "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818",
}


@pytest.mark.parametrize(("chain_id", "name"), [(8453, "USD Coin"), (84532, "USDC")])
async def test_the_planted_dollar_has_the_real_ones_domain(
    chain_id: int, name: str
) -> None:
    async with LocalChain(chain_id=chain_id) as local:
        domain = bytes.fromhex(DOMAINS[chain_id])
        assert await token_facts(local.chain) == TokenFacts(name, "2", 6, domain)


async def test_an_address_without_a_token_is_unreadable(local: LocalChain) -> None:
    chain = Chain([local.url], chain_id=local.chain_id, token=STRANGER)
    try:
        with pytest.raises(TokenUnreadable):
            await token_facts(chain)
        with pytest.raises(TokenUnreadable):
            await balance_of(chain, STRANGER)
        with pytest.raises(TokenUnreadable):
            await nonce_used(chain, STRANGER, b"\x01" * 32)
    finally:
        await chain.close()


@pytest.mark.parametrize(
    "code",
    [
        "60006000fd",  # reverts
        "62ffffff6000f3",  # returns 16 MB of zeros
        "60206000f3",  # returns one word: no text
        "7f" + "ff" * 32 + "60005260406000f3",  # a text that begins at the end of space
    ],
    ids=["reverting", "endless", "short", "wild"],
)
async def test_a_token_that_answers_nonsense_is_unreadable(
    local: LocalChain, chain: Chain, code: str
) -> None:
    await local.plant(local.token, bytes.fromhex(code))
    with pytest.raises(TokenUnreadable):
        await token_facts(chain)


async def test_a_state_that_is_neither_true_nor_false_is_unreadable(
    local: LocalChain, chain: Chain
) -> None:
    await local.plant(local.token, bytes.fromhex("600260005260206000f3"))
    with pytest.raises(TokenUnreadable):
        await nonce_used(chain, STRANGER, b"\x01" * 32)


async def test_balances_are_read_at_a_height_or_a_tag(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    head = await chain.block("latest")
    assert head
    await local.mint(payer.address, DOLLAR)

    assert await balance_of(chain, payer.address, head.number) == 10 * DOLLAR
    assert await balance_of(chain, payer.address) == 11 * DOLLAR
    await local.mine(3)
    assert await balance_of(chain, payer.address, "finalized") == 11 * DOLLAR
    with pytest.raises(TokenUnreadable):
        await balance_of(chain, payer.address, head.number + 1000)


async def test_a_contract_wallet_vouches_for_its_owners_signature_only(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    await local.plant(WALLET, artifact("SmartWallet"))
    await local.write_storage(WALLET, 0, payer.address)
    signature = bytes(Account.unsafe_sign_hash(DIGEST, payer.key).signature)

    assert await is_valid_signature(chain, WALLET, DIGEST, signature)
    assert not await is_valid_signature(chain, WALLET, b"\x43" * 32, signature)
    assert not await is_valid_signature(chain, WALLET, DIGEST, signature[:64])
    assert not await is_valid_signature(chain, STRANGER, DIGEST, signature)


@pytest.mark.parametrize(
    ("mood", "believed"),
    [
        ("accept all", True),
        ("refuse", False),
        ("revert", False),
        ("burn gas", False),
        ("flood", False),
        ("short", False),
    ],
)
async def test_a_hostile_wallet_costs_little_time_and_convinces_nobody_by_trickery(
    local: LocalChain, chain: Chain, mood: str, *, believed: bool
) -> None:
    moods = ["accept all", "refuse", "revert", "burn gas", "flood", "short"]
    await local.plant(WALLET, artifact("HostileWallet"))
    await local.write_storage(WALLET, 0, abi.word(moods.index(mood)))
    began = time.monotonic()

    assert await is_valid_signature(chain, WALLET, DIGEST, b"sig") is believed
    assert time.monotonic() - began < 2


async def test_a_wallet_may_not_use_more_gas_than_we_allow(
    local: LocalChain, chain: Chain
) -> None:
    magic = abi.IS_VALID_SIGNATURE.ljust(32, b"\0")
    # The magic value, times whether more than 200,000 gas is left.
    times_rich = bytes.fromhex("5a62030d401002")
    answer = bytes.fromhex("60005260206000f3")
    await local.plant(WALLET, b"\x7f" + magic + times_rich + answer)

    assert await chain.call(WALLET, b"", gas=1_000_000) == magic
    assert not await is_valid_signature(chain, WALLET, DIGEST, b"")


async def test_a_wallet_with_the_right_word_and_more_is_not_believed(
    local: LocalChain, chain: Chain
) -> None:
    magic = abi.IS_VALID_SIGNATURE.ljust(32, b"\0")
    store = b"\x7f" + magic + bytes.fromhex("600052")
    await local.plant(WALLET, store + bytes.fromhex("60206000f3"))
    assert await is_valid_signature(chain, WALLET, DIGEST, b"")
    await local.plant(WALLET, store + bytes.fromhex("60406000f3"))
    assert not await is_valid_signature(chain, WALLET, DIGEST, b"")
    dirty = b"\x7f" + magic[:31] + b"\x01" + bytes.fromhex("60005260206000f3")
    await local.plant(WALLET, dirty)
    assert not await is_valid_signature(chain, WALLET, DIGEST, b"")


async def test_without_an_answer_a_wallets_signature_is_neither_good_nor_bad(
    local: LocalChain,
) -> None:
    async with FaultProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url, local.url, timeout_seconds=30)
        await chain.block("latest")
        began = time.monotonic()
        proxy.inject("eth_call", Delay(seconds=30))
        with pytest.raises(RpcUnavailable):
            await is_valid_signature(chain, WALLET, DIGEST, b"")
        assert time.monotonic() - began < 4

        proxy.heal()
        proxy.inject("eth_call", ErrorAnswer(code=429, message="slow down"))
        alone = local.open_chain(proxy.url)
        with pytest.raises(RpcUnavailable):
            await is_valid_signature(alone, WALLET, DIGEST, b"")
        await alone.close()
        await chain.close()


@given(st.binary(max_size=100))
def test_bytes_survive_hexadecimal(data: bytes) -> None:
    assert octets(to_hex(data)) == data
    assert fixed(to_hex(data), len(data)) == data
    with pytest.raises(Garbage):
        fixed(to_hex(data), len(data) + 1)


@given(st.integers(0, 2**256 - 1))
def test_numbers_survive_hexadecimal(number: int) -> None:
    assert quantity(hex(number)) == number
    assert int.from_bytes(abi.word(number), "big") == number


@pytest.mark.parametrize(
    "value", [None, 1, "", "0x", "12", "0x_1", " 0x1", "0x1\n", "0xg", "0x" + "1" * 65]
)
def test_what_is_no_quantity_is_garbage(value: object) -> None:
    with pytest.raises(Garbage):
        quantity(value)


@pytest.mark.parametrize("value", [None, b"", "", "0x1", "0x 12", "0x12 ", "0xzz", 3])
def test_what_is_no_byte_string_is_garbage(value: object) -> None:
    with pytest.raises(Garbage):
        octets(value)
