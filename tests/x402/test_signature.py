"""Which signatures recover, held against A26 of the attack catalogue."""

from collections.abc import Callable

import pytest
from coincurve import PrivateKey
from eth_keys.datatypes import Signature
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.x402.keccak import keccak256
from tallystick.x402.signature import (
    ORDER,
    MalformedSignature,
    NotAKeySignature,
    Recovered,
    recover,
)

KEY = PrivateKey(b"\x4c" * 32)
DIGEST = keccak256(b"a digest")
DIGESTS = st.binary(min_size=32, max_size=32)
SECRETS = st.integers(1, ORDER - 1).map(lambda number: number.to_bytes(32, "big"))


def _signature(key: PrivateKey = KEY, digest: bytes = DIGEST) -> bytes:
    raw = key.sign_recoverable(digest, hasher=None)
    return raw[:64] + bytes([raw[64] + 27])


def _address(key: PrivateKey) -> bytes:
    return keccak256(key.public_key.format(compressed=False)[1:])[12:]


def _with_v(v: int) -> Callable[[bytes], bytes]:
    return lambda signature: signature[:64] + bytes([v])


def _with_r(r: int) -> Callable[[bytes], bytes]:
    return lambda signature: r.to_bytes(32, "big") + signature[32:]


def _with_s(s: int) -> Callable[[bytes], bytes]:
    return lambda signature: signature[:32] + s.to_bytes(32, "big") + signature[64:]


def _high_s(signature: bytes) -> bytes:
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


def _eip_2098(signature: bytes) -> bytes:
    folded = bytes([signature[32] | (signature[64] - 27) << 7])
    return signature[:32] + folded + signature[33:64]


def _erc_6492(signature: bytes) -> bytes:
    return bytes(96) + signature + bytes.fromhex("6492" * 16)


@pytest.mark.parametrize(
    ("forge", "problem"),
    [
        *[(_with_v(v), "a v other") for v in (0, 1)],
        (_high_s, "an s that"),
        (_with_s(0), "an s that"),
        (_with_s(ORDER // 2 + 1), "an s that"),
        (_with_s(ORDER), "an s that"),
        (_with_r(0), "an r that"),
        (_with_r(ORDER), "an r that"),
        (_with_r(2**256 - 1), "an r that"),
        (_eip_2098, "EIP-2098"),
        *[(_with_v(v), "a v other") for v in (2, 26, 29, 31, 32, 35, 36, 37, 255)],
    ],
)
def test_what_the_token_takes_of_no_key_may_be_a_contract_wallets_own(
    forge: Callable[[bytes], bytes], problem: str
) -> None:
    answer = recover(DIGEST, forge(_signature()))
    assert isinstance(answer, NotAKeySignature)
    assert problem in answer.problem


def test_a_compact_signature_is_its_keys_where_permit2_judges() -> None:
    whole = recover(DIGEST, _signature())
    assert isinstance(whole, Recovered)
    assert recover(DIGEST, _eip_2098(_signature()), takes_compact=True) == whole
    for number in range(8):  # both parities
        signature = _signature(digest=bytes([number]) * 32)
        folded = recover(bytes([number]) * 32, _eip_2098(signature), takes_compact=True)
        assert folded == Recovered(_address(KEY))


@pytest.mark.parametrize("s", [0, ORDER // 2 + 1, 2**255 - 1])
def test_a_compact_signature_keeps_the_bounds_of_s(s: int) -> None:
    forged = _with_s(s)(_signature())[:64]
    answer = recover(DIGEST, forged, takes_compact=True)
    assert isinstance(answer, NotAKeySignature)
    assert "an s that" in answer.problem


def test_a_wrapped_signature_is_nobodys() -> None:
    answer = recover(DIGEST, _erc_6492(_signature()))
    assert isinstance(answer, MalformedSignature)
    assert "ERC-6492" in answer.problem


@pytest.mark.parametrize("forge", [_with_r(1), _with_s(1)])
def test_the_smallest_numbers_are_not_refused_as_zero(
    forge: Callable[[bytes], bytes],
) -> None:
    assert isinstance(recover(DIGEST, forge(_signature())), Recovered)


def test_an_r_that_is_no_point_of_the_curve_is_of_no_key() -> None:
    # 5 is the x of no point: 5³ + 7 has no square root in the field.
    assert isinstance(recover(DIGEST, _with_r(5)(_signature())), NotAKeySignature)


@pytest.mark.parametrize("length", [0, 1, 63, 66, 130, 700, 4000])
def test_other_lengths_may_belong_to_a_contract_wallet(length: int) -> None:
    answer = recover(DIGEST, b"\x11" * length)
    assert answer == NotAKeySignature("has not the 65 bytes of a key's")


def test_the_largest_low_s_is_not_refused_as_high() -> None:
    answer = recover(DIGEST, _with_s(ORDER // 2)(_signature()))
    assert isinstance(answer, Recovered)


@settings(deadline=None)
@given(SECRETS, DIGESTS)
def test_every_signer_is_recovered_and_its_twin_refused(
    secret: bytes, digest: bytes
) -> None:
    key = PrivateKey(secret)
    signature = _signature(key, digest)
    assert recover(digest, signature) == Recovered(_address(key))
    assert isinstance(recover(digest, _high_s(signature)), NotAKeySignature)


@settings(deadline=None)
@given(DIGESTS, st.binary(min_size=65, max_size=65), st.sampled_from([27, 28]))
def test_random_bytes_recover_what_eth_keys_recovers(
    digest: bytes, noise: bytes, v: int
) -> None:
    noise = b"\x00" + noise[1:32] + b"\x00" + noise[33:64] + bytes([v])
    answer = recover(digest, noise)
    if isinstance(answer, Recovered):
        signature = Signature(noise[:64] + bytes([v - 27]))
        public_key = signature.recover_public_key_from_msg_hash(digest)
        assert answer.address == public_key.to_canonical_address()
