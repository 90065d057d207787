"""Only the holder of the secret makes a tag, and each tag serves one purpose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.kernel.seal import Seal, digest16, random_token

SECRET = bytes(range(32))


@given(st.text(max_size=20), st.binary(max_size=100))
def test_a_tag_fits_its_message_purpose_and_secret(
    purpose: str, message: bytes
) -> None:
    seal = Seal(SECRET)
    tag = seal.mac(purpose, message)
    assert seal.verify(purpose, message, tag)
    assert not seal.verify(purpose + "x", message, tag)
    assert not seal.verify(purpose, message + b"x", tag)
    assert not Seal(SECRET[::-1]).verify(purpose, message, tag)


@given(st.integers(0, 255))
def test_a_tag_with_one_bit_changed_does_not_fit(bit: int) -> None:
    seal = Seal(SECRET)
    tag = bytearray(seal.mac("quote", b"message"))
    tag[bit // 8] ^= 1 << (bit % 8)
    assert not seal.verify("quote", b"message", bytes(tag))


def test_a_tag_may_be_cut_to_sixteen_bytes_and_no_further() -> None:
    seal = Seal(SECRET)
    tag = seal.mac("quote", b"message")
    assert seal.verify("quote", b"message", tag[:16])
    for size in range(16):
        assert not seal.verify("quote", b"message", tag[:size])
    assert not seal.verify("quote", b"message", tag + b"\0")


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Seal(b"x" * 31)


def test_the_secret_does_not_show_in_the_seal_s_text() -> None:
    seal = Seal(b"correct horse battery staple pass")
    assert "horse" not in f"{seal!r} {seal}"


@given(st.lists(st.binary(max_size=8), max_size=5), st.lists(st.binary(max_size=8)))
def test_a_digest_stands_for_its_parts_and_their_borders(
    parts: list[bytes], others: list[bytes]
) -> None:
    assert (digest16(*parts) == digest16(*others)) == (parts == others)
    assert len(digest16(*parts)) == 16


def test_tokens_are_long_and_different() -> None:
    tokens = {random_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(len(one) >= 43 for one in tokens)
