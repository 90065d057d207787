"""What is signed for Permit2, by the general encoder's and the SDK's word."""

from dataclasses import replace

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st
from x402.mechanisms.evm import constants

from tallystick.chain import permit2 as on_chain
from tallystick.x402 import permit2, reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.networks import BASE_SEPOLIA
from tallystick.x402.permit2 import (
    EXACT_PROXY,
    PERMIT2,
    Permit2Authorization,
    authority_of,
    digest_of,
    permit_digest,
)
from tallystick.x402.settle_asked import read_asked
from tallystick.x402.wire import Authorization

UINT256 = st.integers(0, 2**256 - 1)
ADDRESS = st.binary(min_size=20, max_size=20)
PERMITS = st.builds(
    Permit2Authorization,
    payer=ADDRESS,
    pay_to=ADDRESS,
    value=UINT256,
    valid_after=UINT256,
    valid_before=UINT256,
    nonce=st.binary(min_size=32, max_size=32),
    token=ADDRESS,
    spender=ADDRESS,
)
FIELDS = ("pay_to", "value", "valid_after", "valid_before", "nonce", "token", "spender")


@settings(deadline=None)
@given(st.integers(1, 2**64), PERMITS)
def test_the_digest_is_that_of_the_general_encoder(
    chain_id: int, signed: Permit2Authorization
) -> None:
    domain = {
        "name": "Permit2",
        "chainId": chain_id,
        "verifyingContract": constants.PERMIT2_ADDRESS,
    }
    message = {
        "permitted": {"token": f"0x{signed.token.hex()}", "amount": signed.value},
        "spender": f"0x{signed.spender.hex()}",
        "nonce": int.from_bytes(signed.nonce, "big"),
        "deadline": signed.valid_before,
        "witness": {
            "to": f"0x{signed.pay_to.hex()}",
            "validAfter": signed.valid_after,
        },
    }
    signable = encode_typed_data(domain, constants.PERMIT2_WITNESS_TYPES, message)
    assert permit_digest(chain_id, signed) == _hash_eip191_message(signable)


@given(PERMITS, st.sampled_from(FIELDS), st.data())
def test_each_field_and_the_chain_is_signed(
    signed: Permit2Authorization, name: str, data: st.DataObject
) -> None:
    value = getattr(signed, name)
    kind = (
        UINT256
        if isinstance(value, int)
        else st.binary(min_size=len(value), max_size=len(value))
    )
    other = replace(signed, **{name: data.draw(kind.filter(lambda one: one != value))})
    assert permit_digest(8453, other) != permit_digest(8453, signed)
    assert permit_digest(84532, signed) != permit_digest(8453, signed)


@given(PERMITS)
def test_the_same_words_for_the_token_are_another_thing(
    signed: Permit2Authorization,
) -> None:
    names = Authorization.__slots__
    plain = Authorization(**{name: getattr(signed, name) for name in names})
    domain = BASE_SEPOLIA.usdc
    assert digest_of(domain, plain) != digest_of(domain, signed)
    assert authority_of(domain, plain) == domain.contract
    assert authority_of(domain, signed) == PERMIT2
    assert plain != signed


def test_the_addresses_are_those_of_the_sdk() -> None:
    assert f"0x{PERMIT2.hex()}" == constants.PERMIT2_ADDRESS.lower()
    proxy = constants.X402_EXACT_PERMIT2_PROXY_ADDRESS
    assert f"0x{EXACT_PROXY.hex()}" == proxy.lower()
    assert (on_chain.PERMIT2, on_chain.EXACT_PROXY) == (PERMIT2, EXACT_PROXY)
    assert permit2.METHOD == "permit2"


def test_the_reasons_are_those_of_the_sdk() -> None:
    named = {
        getattr(constants, name)
        for name in dir(constants)
        if name.startswith("ERR_PERMIT2_")
    }
    assert named >= reasons.OF_PERMIT2
    assert reasons.spec_reason("permit2_insufficient_balance") == "insufficient_funds"


@given(PERMITS, st.binary(max_size=100))
def test_what_the_proxy_was_told_is_read_again(
    signed: Permit2Authorization, signature: bytes
) -> None:
    call = on_chain.permit_call(signed, signature, signed.token)
    assert call[4:].startswith(on_chain.permit_words(signed, signed.token))
    expected = on_chain.SettledPermit(
        signed.token, signed.value, signed.nonce, signed.payer, signed.pay_to
    )
    assert on_chain.read_settlement(call) == expected
    approval = bytes(5 * 32)
    with_approval = on_chain.SETTLE_WITH_PERMIT + approval + call[4:]
    assert on_chain.read_settlement(with_approval) == expected


@given(st.binary(max_size=300))
def test_any_other_call_settles_nothing(calldata: bytes) -> None:
    assert on_chain.read_settlement(b"\0\0\0\1" + calldata) is None
    assert on_chain.read_settlement(on_chain.SETTLE + calldata[:220]) is None


def test_another_sellers_permit_is_refused() -> None:
    entry = {
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": "1",
        "asset": "0x" + "03" * 20,
        "payTo": "0x" + "70" * 20,
        "maxTimeoutSeconds": 60,
        "extra": {"assetTransferMethod": "permit2"},
    }
    permit = {
        "from": "0x" + "01" * 20,
        "permitted": {"token": "0x" + "03" * 20, "amount": "1"},
        "spender": f"0x{EXACT_PROXY.hex()}",
        "nonce": "1",
        "deadline": "1",
        "witness": {"to": "0x" + "70" * 20, "validAfter": "0"},
    }
    payload = {"permit2Authorization": permit, "signature": "0x00"}
    payment = {"x402Version": 2, "accepted": entry, "payload": payload}
    asked = {
        "x402Version": 2,
        "paymentPayload": payment,
        "paymentRequirements": entry,
    }
    with pytest.raises(PaymentRejected, match="Permit2 are not settled") as caught:
        read_asked(asked)
    assert caught.value.reason == reasons.INVALID_PAYMENT_REQUIREMENTS
