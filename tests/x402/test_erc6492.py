"""Wrapped signatures have one reading (ERC-6492)."""

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st
from x402.mechanisms.evm.constants import MULTICALL3_ADDRESS
from x402.mechanisms.evm.erc6492 import parse_erc6492_signature

from tallystick.chain.deployment import MULTICALL3
from tallystick.x402.erc6492 import (
    MOST_CALLDATA_BYTES,
    Wrapped,
    is_wrapped,
    unwrap,
    wrap,
)

MAGIC = bytes.fromhex("6492" * 16)
FACTORY = bytes.fromhex("fa" * 20)
CALLDATAS = st.binary(min_size=4, max_size=300)
INNERS = st.binary(max_size=300).filter(lambda inner: not is_wrapped(inner))


def by_the_standard(factory: bytes, calldata: bytes, inner: bytes) -> bytes:
    types = ("address", "bytes", "bytes")
    return encode(types, ("0x" + factory.hex(), calldata, inner)) + MAGIC


@given(st.binary(min_size=20, max_size=20), CALLDATAS, INNERS)
def test_what_the_standard_encodes_is_read_and_written_alike(
    factory: bytes, calldata: bytes, inner: bytes
) -> None:
    encoded = by_the_standard(factory, calldata, inner)
    found = Wrapped(factory, calldata, inner)
    assert unwrap(encoded) == found
    assert wrap(found) == encoded
    assert found.selector == calldata[:4]
    told = parse_erc6492_signature(encoded)
    assert told.factory == factory
    assert (told.factory_calldata, told.inner_signature) == (calldata, inner)


def test_multicall_is_where_others_look_for_it() -> None:
    assert MULTICALL3_ADDRESS.lower() == f"0x{MULTICALL3.hex()}"


@given(st.binary(max_size=600))
def test_no_bytes_are_too_odd_to_be_refused(noise: bytes) -> None:
    found = unwrap(noise + MAGIC)
    assert found is None or wrap(found) == noise + MAGIC


@given(CALLDATAS, INNERS, st.data())
def test_no_other_bytes_mean_the_same(
    calldata: bytes, inner: bytes, data: st.DataObject
) -> None:
    encoded = by_the_standard(FACTORY, calldata, inner)
    place = data.draw(st.integers(0, len(encoded) - len(MAGIC) - 1))
    changed = bytearray(encoded)
    changed[place] ^= data.draw(st.integers(1, 255))
    assert unwrap(bytes(changed)) != Wrapped(FACTORY, calldata, inner)
    assert unwrap(encoded[:place] + b"\0" + encoded[place:]) is None


@pytest.mark.parametrize(
    ("size", "is_read"),
    [
        (0, False),
        (3, False),
        (4, True),
        (MOST_CALLDATA_BYTES, True),
        (MOST_CALLDATA_BYTES + 1, False),
    ],
)
def test_a_call_is_a_selector_at_least_and_four_kibibytes_at_most(
    size: int, *, is_read: bool
) -> None:
    encoded = by_the_standard(FACTORY, bytes(size), b"inner")
    assert (unwrap(encoded) is not None) is is_read


def test_what_is_wrapped_twice_is_not_read() -> None:
    once = by_the_standard(FACTORY, b"call", b"inner")
    assert unwrap(by_the_standard(FACTORY, b"call", once)) is None


def test_a_signature_without_the_suffix_is_not_wrapped() -> None:
    encoded = by_the_standard(FACTORY, b"call", b"inner")
    assert not is_wrapped(encoded[:-1])
    assert unwrap(encoded[:-1]) is None
    assert unwrap(MAGIC) is None


def test_the_suffix_alone_shows_nothing_of_the_signature() -> None:
    assert "inner" not in repr(Wrapped(FACTORY, b"call", b"inner-secret"))
