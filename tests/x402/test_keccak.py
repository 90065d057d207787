from concurrent.futures import ThreadPoolExecutor

from eth_hash.auto import keccak
from eth_utils import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.x402.keccak import _fastest, _Sponge, checksum_address, keccak256


def test_the_empty_hash_is_ethereums_and_not_sha3s() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak256(b"").hex() == empty


@settings(deadline=None)
@given(st.binary(max_size=700))
def test_every_hash_equals_eth_hash(message: bytes) -> None:
    assert keccak256(message) == keccak(message)


def test_the_fast_functions_are_still_there() -> None:
    assert isinstance(_fastest().__self__, _Sponge)


def test_threads_do_not_disturb_each_others_hashes() -> None:
    messages = [bytes([seed]) * 5000 for seed in range(64)]
    with ThreadPoolExecutor(8) as pool:
        hashes = list(pool.map(keccak256, messages * 20))
    assert hashes == [keccak(message) for message in messages] * 20


@settings(deadline=None)
@given(st.binary(min_size=20, max_size=20))
def test_addresses_carry_the_checksum_of_eip_55(address: bytes) -> None:
    assert checksum_address(address) == to_checksum_address(address)
