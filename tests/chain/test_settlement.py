"""A real authorization on a real token, by the verbs that the relayer uses."""

import dataclasses
import time

import pytest

from tallystick.chain import abi, relay
from tallystick.chain.errors import GasAboveCap, RpcErrorAnswer, RpcUnavailable
from tallystick.chain.evidence import find_cancellations, find_settlements
from tallystick.chain.fault import ErrorAnswer, FaultProxy
from tallystick.chain.local import OWNER, LocalChain, artifact
from tallystick.chain.relay import Outcome, Refusal
from tallystick.chain.rpc import Chain
from tallystick.chain.settlement import (
    CONTRACT_GAS_CAP,
    DEPLOYMENT_GAS_CAP,
    KEY_GAS_CAP,
    gas_cap,
)
from tallystick.chain.token import balance_of, nonce_used
from tests.chain.bytecode import slow_yes
from tests.chain.payer import (
    DOLLAR,
    PAY_TO,
    RELAYER,
    RELAYER_KEY,
    STRANGER,
    Payer,
    cancel_call,
    mined,
    transfer_call,
)

WALLET = bytes.fromhex("1271" * 10)


async def test_a_signed_dollar_arrives_and_is_found_with_its_evidence(
    chain: Chain, payer: Payer
) -> None:
    authorization, signature = payer.authorize()
    head = await chain.block("latest")
    assert head

    assert (await relay.simulate(chain, authorization, signature, RELAYER)).ok
    signed = await payer.relayed(chain, authorization, signature)
    assert (await relay.broadcast(chain, signed.raw)).outcome is Outcome.ACCEPTED
    proof = await mined(chain, signed.hash)

    (settled,) = await find_settlements(
        chain, payer.address, authorization.nonce, head.number
    )
    assert (settled.payer, settled.pay_to) == (payer.address, PAY_TO)
    assert (settled.amount, settled.nonce) == (DOLLAR, authorization.nonce)
    assert (settled.tx_hash, settled.block_hash) == (signed.hash, proof.block_hash)
    assert await balance_of(chain, PAY_TO) == DOLLAR
    assert await balance_of(chain, PAY_TO, head.number) == 0
    assert await nonce_used(chain, payer.address, authorization.nonce)
    assert proof.gas_used < relay.KEY_GAS_CAP


async def test_a_contract_wallet_pays_with_its_owners_key(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    await local.plant(WALLET, artifact("SmartWallet"))
    await local.write_storage(WALLET, 0, payer.address)
    await local.mint(WALLET, DOLLAR)
    authorization, signature = payer.authorize(on_behalf_of=WALLET)

    assert (await relay.simulate(chain, authorization, signature, RELAYER)).ok
    settled = await payer.settle(chain, authorization, signature)

    assert (settled.payer, settled.amount) == (WALLET, DOLLAR)


async def test_a_signature_that_is_no_key_signature_goes_as_bytes(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    await local.plant(WALLET, artifact("HostileWallet"))  # accepts whatever it is shown
    await local.mint(WALLET, DOLLAR)
    authorization, _ = payer.authorize(on_behalf_of=WALLET)

    for signature in (b"", b"\x01" * 64, b"\x02" * 300):
        fresh = dataclasses.replace(
            authorization, nonce=(signature * 32)[:32] or b"\0" * 32
        )
        call = relay.settlement_call(fresh, signature)
        assert call.startswith(abi.TRANSFER_WITH_BYTES)
        assert (await relay.simulate(chain, fresh, signature, RELAYER)).ok
    settled = await payer.settle(chain, authorization, b"\x02" * 300)

    assert settled.payer == WALLET


async def test_someone_else_submitting_the_authorization_pays_us_all_the_same(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    authorization, signature = payer.authorize()
    call = relay.settlement_call(authorization, signature)
    front_run = await local.send(STRANGER, local.token, call)

    verdict = await relay.simulate(chain, authorization, signature, RELAYER)
    (settled,) = await find_settlements(chain, payer.address, authorization.nonce, 0)

    assert verdict.refusal is Refusal.NONCE_USED
    assert (settled.tx_hash, settled.amount) == (front_run.tx_hash, DOLLAR)


async def test_a_cancelled_authorization_is_refused_and_shows_as_cancelled(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    authorization, signature = payer.authorize()
    await local.send(
        STRANGER, local.token, cancel_call(local, payer.key, authorization.nonce)
    )

    verdict = await relay.simulate(chain, authorization, signature, RELAYER)
    (cancelled,) = await find_cancellations(
        chain, payer.address, authorization.nonce, 0
    )

    assert verdict.refusal is Refusal.NONCE_USED
    assert (cancelled.payer, cancelled.nonce) == (payer.address, authorization.nonce)
    assert await find_settlements(chain, payer.address, authorization.nonce, 0) == []


async def test_a_payer_who_spent_the_money_first_is_refused_before_signing(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    authorization, signature = payer.authorize()
    await local.send(payer.address, local.token, transfer_call(STRANGER, 10 * DOLLAR))

    verdict = await relay.simulate(chain, authorization, signature, RELAYER)

    assert verdict.refusal is Refusal.INSUFFICIENT_FUNDS
    assert "exceeds balance" in verdict.text
    with pytest.raises(RpcErrorAnswer) as caught:
        await relay.estimate_gas(chain, authorization, signature, RELAYER)
    assert caught.value.is_revert


async def test_a_settlement_that_reverts_on_chain_is_no_evidence(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    authorization, signature = payer.authorize()
    signed = await payer.relayed(chain, authorization, signature)
    await local.send(payer.address, local.token, transfer_call(STRANGER, 10 * DOLLAR))

    await relay.broadcast(chain, signed.raw)
    proof = await mined(chain, signed.hash)

    assert not proof.succeeded
    assert await find_settlements(chain, payer.address, authorization.nonce, 0) == []
    assert not await nonce_used(chain, payer.address, authorization.nonce)


async def test_the_window_is_judged_by_the_chains_clock(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    now = int(time.time())
    late = payer.authorize(valid_before=now + 600)
    early = payer.authorize(valid_after=now + 900, valid_before=now + 9000)
    assert (await relay.simulate(chain, *late, RELAYER)).ok
    verdict = await relay.simulate(chain, *early, RELAYER)
    assert verdict.refusal is Refusal.NOT_YET_VALID

    await local.advance(1000)

    verdict = await relay.simulate(chain, *late, RELAYER)
    assert verdict.refusal is Refusal.EXPIRED
    assert (await relay.simulate(chain, *early, RELAYER)).ok


async def test_the_windows_ends_are_outside_it(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    """Diagnosed from the chain alone: this token gives no words (EIP-3009)."""
    # Reverts on calldata longer than 128 bytes, otherwise answers zero.
    silent = bytes.fromhex("36608010600b5760205ff35b5f5ffd")
    await local.plant(local.token, silent)
    head = await chain.block("latest")
    assert head
    now = head.timestamp_seconds

    async def refusal(after: int, before: int) -> Refusal | None:
        payment = payer.authorize(0, valid_after=after, valid_before=before)
        return (await relay.simulate(chain, *payment, RELAYER)).refusal

    assert await refusal(0, now) is Refusal.EXPIRED
    assert await refusal(now, now + 99) is Refusal.NOT_YET_VALID
    assert await refusal(now - 1, now + 1) is Refusal.OTHER


async def test_another_keys_signature_is_named_as_such(
    chain: Chain, payer: Payer
) -> None:
    authorization, _ = payer.authorize()
    other, signature = payer.authorize()
    assert other.nonce != authorization.nonce

    verdict = await relay.simulate(chain, authorization, signature, RELAYER)

    assert verdict.refusal is Refusal.INVALID_SIGNATURE


@pytest.mark.parametrize(
    ("order", "refusal"),
    [
        (abi.selector("pause()"), Refusal.PAUSED),
        (abi.selector("blacklist(address)") + abi.word(PAY_TO), Refusal.BLACKLISTED),
    ],
)
async def test_the_issuers_hand_on_the_token_is_recognised(
    local: LocalChain, chain: Chain, payer: Payer, order: bytes, refusal: Refusal
) -> None:
    authorization, signature = payer.authorize()
    await local.send(OWNER, local.token, order)

    verdict = await relay.simulate(chain, authorization, signature, RELAYER)

    assert verdict.refusal is refusal


async def test_a_node_that_will_not_simulate_says_nothing_of_the_payment(
    local: LocalChain, payer: Payer
) -> None:
    async with FaultProxy(local.url) as proxy:
        chain = local.open_chain(proxy.url)
        try:
            proxy.inject("eth_call", ErrorAnswer(code=-32000, message="header missing"))
            with pytest.raises(RpcErrorAnswer):
                await relay.simulate(chain, *payer.authorize(), RELAYER)
            await proxy.down()
            with pytest.raises(RpcUnavailable):
                await relay.simulate(chain, *payer.authorize(), RELAYER)
        finally:
            await chain.close()


async def test_a_wallet_that_accepts_only_free_calls_gives_itself_away(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    await local.plant(WALLET, artifact("HostileWallet"))
    await local.write_storage(WALLET, 0, b"\x06")  # OnlyInSimulation
    await local.mint(WALLET, DOLLAR)
    authorization, _ = payer.authorize(on_behalf_of=WALLET)
    fees = await relay.fees(chain)

    free = await relay.simulate(chain, authorization, b"any", RELAYER)
    priced = await relay.simulate(chain, authorization, b"any", RELAYER, fees=fees)

    assert free.ok
    assert priced.refusal is Refusal.INVALID_SIGNATURE


async def test_a_settlement_above_the_gas_cap_is_not_signed(
    chain: Chain, payer: Payer
) -> None:
    payment = payer.authorize()

    gas = await relay.estimate_gas(chain, *payment, RELAYER)

    assert gas <= relay.KEY_GAS_CAP
    assert await relay.estimate_gas(chain, *payment, RELAYER, cap=gas - 1) == gas - 1
    with pytest.raises(GasAboveCap):
        await relay.estimate_gas(chain, *payment, RELAYER, cap=50_000)


async def test_a_dead_payments_nonce_is_taken_by_a_filler(
    chain: Chain, payer: Payer
) -> None:
    nonce = await chain.nonce(RELAYER, "latest")
    filler = relay.sign_filler(chain, RELAYER_KEY, nonce, await relay.fees(chain))

    assert (await relay.broadcast(chain, filler.raw)).outcome is Outcome.ACCEPTED
    proof = await mined(chain, filler.hash)

    assert (proof.succeeded, proof.gas_used, proof.logs) == (True, 21_000, ())
    assert await chain.nonce(RELAYER, "latest") == nonce + 1


@pytest.mark.parametrize(
    ("code", "cap"),
    [
        (b"", KEY_GAS_CAP),
        (b"\xef\x01\x00" + bytes(20), CONTRACT_GAS_CAP),
        (bytes(1000), CONTRACT_GAS_CAP),
    ],
)
def test_who_is_asked_by_the_token_may_cost_more_gas(code: bytes, cap: int) -> None:
    assert gas_cap(code) == cap
    assert gas_cap(code, deploys=True) == DEPLOYMENT_GAS_CAP


async def test_a_contract_wallet_may_cost_more_though_its_signature_has_65_bytes(
    local: LocalChain, chain: Chain, payer: Payer
) -> None:
    authorization, signature = payer.authorize(on_behalf_of=WALLET)
    assert len(signature) == 65
    await local.mint(WALLET, DOLLAR)
    await local.plant(WALLET, slow_yes(rounds=3000))
    gas = await relay.estimate_gas(chain, authorization, signature, RELAYER)
    assert KEY_GAS_CAP < gas <= CONTRACT_GAS_CAP
    await local.plant(WALLET, slow_yes(rounds=30_000))
    with pytest.raises(GasAboveCap):
        await relay.estimate_gas(chain, authorization, signature, RELAYER)
