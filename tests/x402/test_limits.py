"""A32 and A33: whatever is sent, its refusal costs next to nothing."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tallystick.x402.errors import MalformedPayment, MalformedSignIn
from tallystick.x402.headers import decode_payment
from tallystick.x402.siwx import verify_siwx
from tallystick.x402.strict_json import MAX_DEPTH, MAX_HEADER_BYTES, MAX_KEYS

MAX_SECONDS = 0.02
"""Per input, the bound of the attack catalogue; a refusal takes microseconds."""

BOMBS: dict[str, bytes] = {
    "nested lists": b"[" * 100_000 + b"]" * 100_000,
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "open brackets in one header": b"[" * 6000,
    "a million digits": b'{"x402Version":' + b"1" * 1_000_000 + b"}",
    "as many digits as fit": b'{"x402Version":' + b"1" * 6000 + b"}",
    "a long exponent": b'{"x402Version":1e' + b"9" * 6000 + b"}",
    "100,000 keys": json.dumps({f"k{n}": 0 for n in range(100_000)}).encode(),
    "as many keys as fit": json.dumps({f"{n}": 0 for n in range(600)}).encode(),
    "10 MB of text": b'{"x":"' + b"a" * 10_000_000 + b'"}',
    "10 MB of nothing": bytes(10_000_000),
    "backslashes": b'{"x":"' + b"\\\\" * 3000,
    "escapes": b'{"x":"' + b"\\u0000" * 1000 + b'"}',
}


def _fastest_seconds(attempt: Callable[[], None]) -> float:
    """Of five, because the machine does other things as well."""
    times = []
    for _ in range(5):
        began = time.perf_counter()
        attempt()
        times.append(time.perf_counter() - began)
    return min(times)


@pytest.mark.parametrize("wrap", [base64.b64encode, bytes], ids=["base64", "raw"])
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_bombs_are_refused_at_once(bomb: bytes, wrap: Callable[[bytes], bytes]) -> None:
    value = wrap(bomb)

    def attempt_payment() -> None:
        with pytest.raises(MalformedPayment):
            decode_payment([value], [])

    def attempt_sign_in() -> None:
        with pytest.raises(MalformedSignIn):
            verify_siwx(
                value,
                expected_origin="https://api.example.com",
                chain_id=1,
                now_seconds=0,
                check_nonce=lambda _nonce, _offer: True,
            )

    assert _fastest_seconds(attempt_payment) < MAX_SECONDS
    assert _fastest_seconds(attempt_sign_in) < MAX_SECONDS


def _nested(levels: int) -> Any:
    return {"x": _nested(levels - 1)} if levels > 1 else {}


@pytest.mark.parametrize(
    "container", [lambda inner: {"x": inner}, lambda inner: [inner]]
)
def test_the_depth_is_counted_from_the_document(
    payment_v2: Callable[..., dict[str, Any]],
    header: Callable[[Any], str],
    container: Callable[[Any], Any],
) -> None:
    deep: Any = "bottom"
    for _ in range(MAX_DEPTH - 1):
        deep = container(deep)
    fits = payment_v2() | {"more": deep}
    assert decode_payment([header(fits)], []) is not None
    with pytest.raises(MalformedPayment, match="deeper than 12"):
        decode_payment([header(fits | {"more": container(deep)})], [])


def test_keys_are_counted_in_the_whole_document(
    payment_v2: Callable[..., dict[str, Any]], header: Callable[[Any], str]
) -> None:
    document = payment_v2()
    room = MAX_KEYS - _keys_of(document) - 1
    document["resource"] |= {f"k{n}": n for n in range(room)}
    assert decode_payment([header(document | {"x": [1]})], []) is not None
    with pytest.raises(MalformedPayment, match="more than 128 keys"):
        decode_payment([header(document | {"x": [{"one": 1}]})], [])


def _keys_of(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(_keys_of(inner) for inner in value.values())
    return 0


@pytest.mark.parametrize(
    ("value", "is_read"),
    [
        (9_999_999_999, True),
        (10_000_000_000, False),
        (-999_999_999, True),
        ([[]] * 57, True),
        ([[]] * 58, False),
        ([{}] * 58, False),
    ],
)
def test_numbers_and_containers_have_their_bounds(
    payment_v2: Callable[..., dict[str, Any]],
    header: Callable[[Any], str],
    value: Any,
    *,
    is_read: bool,
) -> None:
    # The payment itself has six objects, and the list around the others is one.
    value = header(payment_v2() | {"memo": value})
    if is_read:
        assert decode_payment([value], []) is not None
    else:
        with pytest.raises(MalformedPayment, match=r"too (long|many)"):
            decode_payment([value], [])


def test_a_header_as_long_as_allowed_is_read_and_one_longer_is_not(
    payment_v2: Callable[..., dict[str, Any]], header: Callable[[Any], str]
) -> None:
    def padded(size: int) -> str:
        return header(document | {"memo": "m" * size})

    document = payment_v2()
    size = next(n for n in range(9000) if len(padded(n)) == MAX_HEADER_BYTES)
    longest = max(
        n for n in range(size, size + 3) if len(padded(n)) == len(padded(size))
    )
    assert decode_payment([padded(longest)], []) is not None
    with pytest.raises(MalformedPayment, match="longer than 8192 bytes"):
        decode_payment([padded(longest + 1)], [])


def test_a_long_signature_of_a_contract_wallet_is_read(
    payment_v2: Callable[..., dict[str, Any]], header: Callable[[Any], str]
) -> None:
    document = payment_v2()
    document["payload"]["signature"] = "0x" + "ab" * 2000
    payment = decode_payment([header(document)], [])
    assert payment is not None
    assert payment.signature == b"\xab" * 2000
