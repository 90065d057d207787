"""A14, A19, A20, A25: only the payment that was asked for passes, and it does pass."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.kernel.money import UsdcAtomic
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.exact_evm import (
    ProvenPayer,
    check_authorization,
    prove_payer,
)
from tallystick.x402.headers import decode_payment
from tallystick.x402.networks import BASE, BASE_SEPOLIA
from tallystick.x402.signature import ORDER, ContractQuestion
from tallystick.x402.wire import PaymentPayload, PaymentTerms

Payment = Callable[..., dict[str, Any]]
Read = Callable[[dict[str, Any]], PaymentPayload]


@pytest.fixture(scope="session")
def read(header: Callable[[Any], str]) -> Read:
    def _read(document: dict[str, Any]) -> PaymentPayload:
        values = [header(document)]
        is_new = document["x402Version"] == 2
        payment = decode_payment(values if is_new else [], [] if is_new else values)
        assert payment is not None
        return payment

    return _read


def _reason(payment: PaymentPayload, terms: PaymentTerms, now_seconds: int) -> str:
    with pytest.raises(PaymentRejected) as caught:
        check_authorization(payment, terms, now_seconds=now_seconds)
    assert caught.value.status == 402
    assert caught.value.members == {"reason": caught.value.reason}
    assert caught.value.reason in reasons.SPECIFICATION
    return caught.value.reason


def test_the_payment_that_was_asked_for_passes_in_both_versions(
    payment_v2: Payment,
    payment_v1: Payment,
    read: Read,
    terms: PaymentTerms,
    now_seconds: int,
) -> None:
    for document in (payment_v2(), payment_v1()):
        check_authorization(read(document), terms, now_seconds=now_seconds)


@pytest.mark.parametrize("value", [999_999, 1_000_001, 1, 2**62, 2**256 - 1])
def test_any_other_amount_is_refused_in_both_versions(
    payment_v2: Payment,
    payment_v1: Payment,
    read: Read,
    terms: PaymentTerms,
    now_seconds: int,
    value: int,
) -> None:
    for document in (payment_v2(value=value), payment_v1(value=value)):
        assert _reason(read(document), terms, now_seconds) == reasons.VALUE


def test_a_payment_of_nothing_is_refused(
    payment_v1: Payment, read: Read, terms: PaymentTerms, now_seconds: int
) -> None:
    payment = read(payment_v1(value=0))
    assert _reason(payment, terms, now_seconds) == reasons.VALUE


def test_an_offer_of_an_impossible_amount_cannot_be_made(terms: PaymentTerms) -> None:
    for amount in (0, -1, 2**62):
        with pytest.raises(AssertionError):
            replace(terms, amount=UsdcAtomic(amount))


def test_a_payment_to_somebody_else_is_refused(
    payment_v2: Payment,
    payment_v1: Payment,
    read: Read,
    terms: PaymentTerms,
    now_seconds: int,
    stranger: LocalAccount,
) -> None:
    for document in (
        payment_v2(pay_to=stranger.address),
        payment_v1(pay_to=stranger.address),
    ):
        reason = _reason(read(document), terms, now_seconds)
        assert reason == reasons.RECIPIENT_MISMATCH


def test_payer_and_payee_swapped_is_refused(
    payment_v1: Payment,
    read: Read,
    terms: PaymentTerms,
    wallet: LocalAccount,
    now_seconds: int,
) -> None:
    swapped = payment_v1(payer="0x" + terms.pay_to.hex(), pay_to=wallet.address)
    reason = _reason(read(swapped), terms, now_seconds)
    assert reason == reasons.RECIPIENT_MISMATCH


@pytest.mark.parametrize(
    "entry",
    [
        {"amount": "999999"},
        {"amount": "1000001"},
        {"amount": "0"},
        {"asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"},
        {"payTo": "0x" + "22" * 20},
        {"maxTimeoutSeconds": 121},
        {"maxTimeoutSeconds": 0},
        {"extra": {}},
        {"extra": None},
        {"extra": {"name": "USDC", "version": "2"}},
        {"extra": {"name": "USDC", "version": "2", "quote": "q2"}},
        {
            "extra": {
                "name": "USD Coin",
                "version": "2",
                "quote": "q1.1790000120.c2VhbGVk",
            }
        },
        {
            "extra": {
                "name": "USDC",
                "version": "1",
                "quote": "q1.1790000120.c2VhbGVk",
            }
        },
        {
            "extra": {
                "name": "USDC",
                "version": "2",
                "quote": "q1.1790000120.c2VhbGVk",
                "assetTransferMethod": "permit2",
            }
        },
    ],
)
def test_an_entry_that_we_did_not_offer_is_refused(
    payment_v2: Payment,
    read: Read,
    terms: PaymentTerms,
    now_seconds: int,
    entry: dict[str, Any],
) -> None:
    payment = read(payment_v2(accepted=entry))
    reason = _reason(payment, terms, now_seconds)
    assert reason == reasons.INVALID_PAYMENT_REQUIREMENTS


def test_the_offered_entry_passes_in_any_spelling_of_its_addresses(
    payment_v2: Payment, read: Read, terms: PaymentTerms, now_seconds: int
) -> None:
    entry = {
        "asset": "0x" + terms.asset.hex(),
        "payTo": "0x" + terms.pay_to.hex().upper(),
    }
    payment = read(payment_v2(accepted=entry))
    check_authorization(payment, terms, now_seconds=now_seconds)


@pytest.mark.parametrize("network", ["eip155:8453", "eip155:1", "eip155:084532"])
def test_another_network_is_refused(
    payment_v2: Payment,
    read: Read,
    terms: PaymentTerms,
    now_seconds: int,
    network: str,
) -> None:
    payment = read(payment_v2(accepted={"network": network}))
    assert _reason(payment, terms, now_seconds) == reasons.INVALID_NETWORK


def test_version_1_on_another_network_is_refused(
    payment_v1: Payment, read: Read, terms: PaymentTerms, now_seconds: int
) -> None:
    payment = read(payment_v1() | {"network": "base"})
    assert _reason(payment, terms, now_seconds) == reasons.INVALID_NETWORK


def test_another_scheme_is_refused_even_if_the_header_was_not_ours_to_read(
    payment_v2: Payment, read: Read, terms: PaymentTerms, now_seconds: int
) -> None:
    payment = replace(read(payment_v2()), scheme="upto")
    assert _reason(payment, terms, now_seconds) == reasons.UNSUPPORTED_SCHEME


def test_version_2_without_its_entry_is_refused(
    payment_v1: Payment, read: Read, terms: PaymentTerms, now_seconds: int
) -> None:
    payment = replace(read(payment_v1()), version=2)
    reason = _reason(payment, terms, now_seconds)
    assert reason == reasons.INVALID_PAYMENT_REQUIREMENTS


@pytest.mark.parametrize("far_seconds", [20, 21, 120, 3600])
def test_a_window_that_lasts_long_enough_passes(
    payment_v1: Payment,
    read: Read,
    terms: PaymentTerms,
    far_seconds: int,
    now_seconds: int,
) -> None:
    payment = read(payment_v1(valid_before=now_seconds + far_seconds))
    check_authorization(payment, terms, now_seconds=now_seconds)


@pytest.mark.parametrize("far_seconds", [-(10**9), -1, 0, 1, 5, 6, 7, 19, 3601, 10**9])
def test_a_window_that_is_over_too_short_or_too_long_is_refused(
    payment_v1: Payment,
    read: Read,
    terms: PaymentTerms,
    far_seconds: int,
    now_seconds: int,
) -> None:
    payment = read(payment_v1(valid_before=now_seconds + far_seconds))
    assert _reason(payment, terms, now_seconds) == reasons.VALID_BEFORE


def test_the_largest_number_is_no_moment_in_time(
    payment_v1: Payment, read: Read, terms: PaymentTerms, now_seconds: int
) -> None:
    late = read(payment_v1(valid_before=2**256 - 1))
    assert _reason(late, terms, now_seconds) == reasons.VALID_BEFORE
    block_number = read(payment_v1(valid_after=1 << 255))
    assert _reason(block_number, terms, now_seconds) == reasons.VALID_AFTER


@pytest.mark.parametrize("ago_seconds", [0, 1, 600])
def test_an_authorization_that_is_valid_already_passes(
    payment_v1: Payment,
    read: Read,
    terms: PaymentTerms,
    ago_seconds: int,
    now_seconds: int,
) -> None:
    payment = read(payment_v1(valid_after=now_seconds - ago_seconds))
    check_authorization(payment, terms, now_seconds=now_seconds)


@pytest.mark.parametrize("ahead_seconds", [1, 60])
def test_an_authorization_that_is_not_yet_valid_is_refused(
    payment_v1: Payment,
    read: Read,
    terms: PaymentTerms,
    ahead_seconds: int,
    now_seconds: int,
) -> None:
    payment = read(payment_v1(valid_after=now_seconds + ahead_seconds))
    assert _reason(payment, terms, now_seconds) == reasons.VALID_AFTER


def test_the_payers_own_signature_proves_the_payer(
    payment_v2: Payment, payment_v1: Payment, read: Read, wallet: LocalAccount
) -> None:
    address = bytes.fromhex(wallet.address[2:])
    for document in (payment_v2(), payment_v1()):
        proof = prove_payer(read(document), BASE_SEPOLIA.usdc)
        assert proof == ProvenPayer(address)


@pytest.mark.parametrize(
    "domain",
    [
        {"chain_id": 1},
        {"chain_id": 8453},
        {"contract": "0x" + BASE.usdc.contract.hex()},
        {"name": "USD Coin"},
        {"name": "usdc"},
        {"version": "1"},
        {"version": "2 "},
    ],
)
def test_a_signature_for_another_token_or_chain_proves_nobody(
    payment_v2: Payment, read: Read, domain: dict[str, Any]
) -> None:
    proof = prove_payer(read(payment_v2(**domain)), BASE_SEPOLIA.usdc)
    assert isinstance(proof, ContractQuestion)


TAMPERS: list[tuple[str, str]] = [
    ("from", "0x" + "33" * 20),
    ("to", "0x" + "33" * 20),
    ("value", "1000001"),
    ("validAfter", "1"),
    ("validBefore", "1790000121"),
    ("nonce", "0x" + "08" * 32),
]


@pytest.mark.parametrize(("field", "value"), TAMPERS)
def test_a_field_changed_after_signing_proves_nobody(
    payment_v1: Payment, read: Read, field: str, value: str
) -> None:
    document = payment_v1()
    document["payload"]["authorization"][field] = value
    proof = prove_payer(read(document), BASE_SEPOLIA.usdc)
    assert isinstance(proof, ContractQuestion)


def test_the_signature_of_another_key_is_a_question_to_the_payers_contract(
    payment_v1: Payment, read: Read, wallet: LocalAccount, stranger: LocalAccount
) -> None:
    payment = read(payment_v1(key=stranger))
    proof = prove_payer(payment, BASE_SEPOLIA.usdc)
    assert isinstance(proof, ContractQuestion)
    assert proof.wallet == bytes.fromhex(wallet.address[2:])
    assert proof.signature == payment.signature
    assert len(proof.digest) == 32
    assert "signature" not in repr(proof)


def _flipped(signature: bytes) -> bytes:
    high = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + high.to_bytes(32, "big") + bytes([55 - signature[64]])


@pytest.mark.parametrize(
    "forge",
    [
        _flipped,
        lambda signature: signature[:64] + bytes([signature[64] - 27]),
        lambda signature: signature[:64],
        lambda signature: bytes(64) + signature[64:],
    ],
    ids=["high s", "v 0 or 1", "64 bytes", "zero r and s"],
)
def test_a_second_form_of_the_payers_signature_is_a_question_to_his_contract(
    payment_v1: Payment, read: Read, forge: Callable[[bytes], bytes]
) -> None:
    payment = read(payment_v1())
    forged = forge(payment.signature)
    proof = prove_payer(replace(payment, signature=forged), BASE_SEPOLIA.usdc)
    assert isinstance(proof, ContractQuestion)
    assert proof.signature == forged
    assert proof.problem is not None
    assert proof.problem in proof.refusal


def test_a_signature_that_is_wrapped_as_in_erc_6492_is_refused(
    payment_v1: Payment, read: Read
) -> None:
    payment = read(payment_v1())
    wrapped = payment.signature + bytes.fromhex("6492" * 16)
    with pytest.raises(PaymentRejected) as caught:
        prove_payer(replace(payment, signature=wrapped), BASE_SEPOLIA.usdc)
    assert caught.value.reason == reasons.SIGNATURE
    assert payment.signature.hex()[:16] not in caught.value.detail


def test_a_v_that_no_key_has_proves_nobody_without_the_chain(
    payment_v1: Payment, read: Read
) -> None:
    payment = read(payment_v1())
    marked = payment.signature[:64] + bytes([payment.signature[64] + 4])
    proof = prove_payer(replace(payment, signature=marked), BASE_SEPOLIA.usdc)
    assert isinstance(proof, ContractQuestion)
    assert proof.signature == marked


@settings(deadline=None)
@given(st.integers(0, 64), st.integers(1, 255))
def test_no_changed_byte_of_a_signature_proves_the_payer(
    payment_v1: Payment, read: Read, place: int, change: int
) -> None:
    payment = read(payment_v1())
    forged = bytearray(payment.signature)
    forged[place] ^= change
    try:
        proof = prove_payer(
            replace(payment, signature=bytes(forged)), BASE_SEPOLIA.usdc
        )
    except PaymentRejected:
        return
    assert isinstance(proof, ContractQuestion)
