"""Who settles permits: our relayers, and nobody whom we ask (docs/decisions/0030)."""

import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from web3 import Web3
from x402.mechanisms.evm.constants import X402_EXACT_PERMIT2_PROXY_ABI

from tallystick.chain.local import LocalChain
from tallystick.chain.permit2 import (
    EXACT_PROXY,
    PERMIT2,
    SETTLE_WITH_PERMIT,
    permit_call,
)
from tallystick.chain.permit_evidence import find_traces
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.models.topups import TopUpState
from tallystick.payments.rail import Witness
from tallystick.payments.ways import Elsewhere
from tests.house import DOLLAR, House, Process, relayer
from tests.payments.facilitators import desk_at, listening, sample
from tests.permits import PermitWallet, Signed, submit_permit
from tests.strangers import STRANGER

S = TopUpState


async def test_without_a_relayer_permits_are_not_offered(house: House) -> None:
    keyless = await house.start(relayers=(), takes_permit2=True)
    assert not keyless.rail.offers_permit2
    with_key = await house.start(takes_permit2=True)
    assert with_key.rail.offers_permit2
    assert not (await house.start()).rail.offers_permit2
    away = await house.start(relayers=(), takes_permit2=True, elsewhere=Elsewhere())
    assert away.rail.offers_permit2


async def test_a_permit_that_no_relayer_could_settle_is_not_claimed(
    house: House, payer: PermitWallet, local: LocalChain
) -> None:
    poor = await house.start(relayers=(relayer(4),), takes_permit2=True)
    poor.rail.outlook.without_gas.add(relayer(4).address)
    with pytest.raises(TopUpsUnavailable, match="gas"):
        await poor.claim(await payer.permit(house.pay_to))
    assert await poor.topups() == []


async def test_a_facilitator_is_never_asked_to_settle_a_permit(
    house: House, payer: PermitWallet, local: LocalChain
) -> None:
    """What it makes of them nobody knows; our relayer settles, and its call is served."""
    async with sample(local) as one, listening(one.app) as there:
        desk = desk_at(there.url)
        shop = await house.start(takes_permit2=True, facilitator=desk)
        by_permit = await shop.claim(await payer.permit(house.pay_to))
        assert (await shop.settle(by_permit)).state == S.CREDITED
        assert await shop.asked(by_permit) == []
        assert len(await shop.sent(by_permit)) == 1
        own = await shop.claim(await payer.authorize(house.pay_to))
        await shop.settle(own)
        assert len(await shop.asked(own)) == 1
        assert await shop.sent(own) == []
        await shop.close()
        house.processes.remove(shop)


async def _with_approval(payer: PermitWallet, signed: Signed) -> bytes:
    """Calldata of ``settleWithPermit``: the approval comes with the payment."""
    permit, signature = signed
    local = payer.local
    domain = {
        "name": local.title,
        "version": "2",
        "chainId": local.chain_id,
        "verifyingContract": f"0x{local.token.hex()}",
    }
    fields = ("owner", "spender", "value", "nonce", "deadline")
    types = ("address", "address", "uint256", "uint256", "uint256")
    message = {
        "owner": f"0x{payer.address.hex()}",
        "spender": f"0x{PERMIT2.hex()}",
        "value": permit.value,
        "nonce": 0,
        "deadline": permit.valid_before,
    }
    members = [
        {"name": name, "type": kind} for name, kind in zip(fields, types, strict=True)
    ]
    signable = encode_typed_data(domain, {"Permit": members}, message)
    approval = bytes(Account.sign_message(signable, payer.key).signature)
    r, s, v = approval[:32], approval[32:64], approval[64]
    words = encode(
        (
            "(uint256,uint256,bytes32,bytes32,uint8)",
            "((address,uint256),uint256,uint256)",
            "address",
            "(address,uint256)",
            "bytes",
        ),
        (
            (permit.value, permit.valid_before, r, s, v),
            (
                (permit.token, permit.value),
                int.from_bytes(permit.nonce, "big"),
                permit.valid_before,
            ),
            permit.payer,
            (permit.pay_to, permit.valid_after),
            signature,
        ),
    )
    return SETTLE_WITH_PERMIT + words


async def test_an_approval_that_somebody_else_submits_with_it_is_known_as_well(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    signed = await payer.permit(shop.rail.pay_to)
    topup_id = await shop.claim(signed)
    await payer.approve(0)
    call = await _with_approval(payer, signed)
    assert (await local.send(STRANGER, EXACT_PROXY, call)).succeeded
    await shop.observe()
    assert (await shop.topup(topup_id)).state == S.CREDITED
    assert await shop.credits_of(payer) == 10 * DOLLAR


async def test_a_witness_agrees_with_what_only_calldata_tells(
    house: House, payer: PermitWallet, local: LocalChain
) -> None:
    """It vouches for the Transfer; for the calldata the transaction's hash stands."""
    witness = Witness(local.open_chain(), above=0)
    shop = await house.start(takes_permit2=True, witness=witness)
    own = await shop.claim(await payer.permit(house.pay_to))
    assert (await shop.settle(own)).state == S.CREDITED
    signed = await payer.permit(house.pay_to)
    others = await shop.claim(signed)
    await submit_permit(local, signed)
    await shop.observe()
    assert (await shop.topup(others)).state == S.CREDITED
    assert shop.rail.outlook.witness_disagreed == 0


async def test_a_payer_who_pays_others_by_permits_leaves_no_trace_for_us(
    shop: Process, payer: PermitWallet, local: LocalChain
) -> None:
    ours = await payer.permit(shop.rail.pay_to)
    await submit_permit(local, await payer.permit(b"\x77" * 20))
    traces = await find_traces(local.chain, ours[0], 0)
    assert (traces.captures, traces.unclear, traces.invalidated_at) == ((), (), ())
    await payer.invalidate(ours[0].nonce)
    traces = await find_traces(local.chain, ours[0], 0)
    assert len(traces.invalidated_at) == 1
    neighbour = (int.from_bytes(ours[0].nonce, "big") ^ 1).to_bytes(32, "big")
    await payer.invalidate(neighbour)
    assert len((await find_traces(local.chain, ours[0], 0)).invalidated_at) == 1


async def test_the_call_is_that_of_the_stock_facilitator(payer: PermitWallet) -> None:
    """By the ABI that the SDK has of the proxy."""
    permit, signature = await payer.permit(b"\x70" * 20)
    proxy = Web3().eth.contract(abi=X402_EXACT_PERMIT2_PROXY_ABI)
    expected = proxy.encode_abi(
        "settle",
        [
            (
                (permit.token, permit.value),
                int.from_bytes(permit.nonce, "big"),
                permit.valid_before,
            ),
            permit.payer,
            (permit.pay_to, permit.valid_after),
            signature,
        ],
    )
    ours = permit_call(permit, signature, permit.token)
    assert f"0x{ours.hex()}" == expected
