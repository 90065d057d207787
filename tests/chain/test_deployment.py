"""A wallet's deployment and its payment, rehearsed and estimated as one (A29)."""

import pytest

from tallystick.chain import abi, relay
from tallystick.chain.deployment import (
    DEPLOYMENT_GAS_CAP,
    MULTICALL3,
    second_result,
    will_vouch,
)
from tallystick.chain.errors import GasAboveCap, RpcUnavailable
from tallystick.chain.fault import Delay, FaultProxy
from tallystick.chain.local import OWNER, LocalChain, artifact
from tallystick.chain.relay import Refusal
from tallystick.chain.rpc import Chain
from tallystick.x402.erc6492 import Wrapped
from tests.chain.bytecode import slow_yes
from tests.chain.payer import DOLLAR, RELAYER, Authorization, Payer

FACTORY = bytes.fromhex("fa" * 20)
BURNING = bytes.fromhex("b0" * 20)
SALT = bytes(32)
DIGEST = b"\x42" * 32


@pytest.fixture
async def wallet(local: LocalChain, payer: Payer) -> bytes:
    """Where the payer's wallet will be; a dollar is there already."""
    await local.plant(MULTICALL3, artifact("Multicall"))
    await local.plant(FACTORY, artifact("WalletFactory"))
    place = abi.selector("addressOf(address,bytes32)") + abi.word(payer.address) + SALT
    address = (await local.chain.call(FACTORY, place))[12:]
    await local.mint(address, DOLLAR)
    return address


def deployment_for(payer: Payer, factory: bytes = FACTORY) -> Wrapped:
    create = abi.selector("create(address,bytes32)")
    return Wrapped(factory, create + abi.word(payer.address) + SALT, b"")


async def test_a_rehearsal_deploys_and_captures_and_leaves_nothing(
    chain: Chain, payer: Payer, wallet: bytes
) -> None:
    signed = payer.authorize(on_behalf_of=wallet)
    deployment = deployment_for(payer)
    assert not (await relay.simulate(chain, *signed, RELAYER)).ok
    seen = await relay.simulate(chain, *signed, RELAYER, deployment=deployment)
    assert seen.ok
    gas = await relay.estimate_gas(chain, *signed, RELAYER, deployment=deployment)
    assert relay.CONTRACT_GAS_CAP < gas <= DEPLOYMENT_GAS_CAP
    assert await chain.code_at(wallet) == b""


async def test_a_capture_that_fails_says_why_through_the_deployment(
    local: LocalChain, chain: Chain, payer: Payer, wallet: bytes
) -> None:
    deployment = deployment_for(payer)

    async def refusal(signed: tuple[Authorization, bytes]) -> Refusal | None:
        seen = await relay.simulate(chain, *signed, RELAYER, deployment=deployment)
        return seen.refusal

    good = payer.authorize(on_behalf_of=wallet)
    too_much = payer.authorize(2 * DOLLAR, on_behalf_of=wallet)
    assert await refusal(too_much) is Refusal.INSUFFICIENT_FUNDS
    assert await refusal((good[0], b"\x01" * 65)) is Refusal.INVALID_SIGNATURE
    assert await refusal((good[0], b"")) is Refusal.INVALID_SIGNATURE
    await local.send(OWNER, local.token, abi.selector("pause()"))
    assert await refusal(good) is Refusal.PAUSED


async def test_a_deployment_above_the_gas_cap_is_not_signed(
    local: LocalChain, chain: Chain, payer: Payer, wallet: bytes
) -> None:
    await local.plant(wallet, artifact("SmartWallet"))
    await local.write_storage(wallet, 0, payer.address)
    await local.plant(BURNING, slow_yes(rounds=30_000))
    signed = payer.authorize(on_behalf_of=wallet)
    deployment = deployment_for(payer, BURNING)
    assert (await relay.simulate(chain, *signed, RELAYER)).ok
    seen = await relay.simulate(chain, *signed, RELAYER, deployment=deployment)
    assert not seen.ok
    await local.plant(BURNING, slow_yes(rounds=20_000))
    with pytest.raises(GasAboveCap):
        await relay.estimate_gas(
            chain, *signed, RELAYER, deployment=deployment, cap=500_000
        )


async def test_nothing_is_believed_of_a_chain_without_multicall(
    local: LocalChain, chain: Chain, payer: Payer, wallet: bytes
) -> None:
    """A call to an address without code succeeds, and does nothing."""
    await local.plant(MULTICALL3, b"")
    signed = payer.authorize(on_behalf_of=wallet)
    deployment = deployment_for(payer)
    assert not await will_vouch(chain, wallet, DIGEST, signed[1], deployment)
    seen = await relay.simulate(chain, *signed, RELAYER, deployment=deployment)
    assert seen.refusal is Refusal.OTHER


async def test_without_an_answer_an_undeployed_wallet_said_neither_yes_nor_no(
    local: LocalChain, payer: Payer, wallet: bytes
) -> None:
    async with FaultProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url, timeout_seconds=30)
        await chain.block("latest")
        proxy.inject("eth_call", Delay(seconds=30))
        with pytest.raises(RpcUnavailable):
            await will_vouch(chain, wallet, DIGEST, b"", deployment_for(payer))
        await chain.close()


@pytest.mark.parametrize(
    "answer", [b"", b"\x01", bytes(64), b"\xff" * 320, bytes(10**5)]
)
def test_an_answer_that_is_not_multicalls_is_none(answer: bytes) -> None:
    assert second_result(answer) is None
