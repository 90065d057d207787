"""Which payment headers can be read, and how the others are refused."""

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from tallystick.x402 import reasons
from tallystick.x402.errors import MalformedPayment, PaymentRejected
from tallystick.x402.headers import decode_payment
from tallystick.x402.wire import PaymentTerms

Payment = Callable[..., dict[str, Any]]
Header = Callable[[Any], str]


def _base64(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return base64.b64encode(raw).decode()


def test_no_header_is_no_payment() -> None:
    assert decode_payment([], []) is None


def test_a_payment_of_version_2_is_read(
    payment_v2: Payment, header: Header, terms: PaymentTerms
) -> None:
    payment = decode_payment([header(payment_v2())], [])
    assert payment is not None
    assert (payment.version, payment.scheme) == (2, "exact")
    assert payment.network == "eip155:84532"
    assert payment.resource_url == "https://api.example.com/features/ai_analyst"
    assert payment.authorization.value == 1_000_000
    assert payment.authorization.pay_to == terms.pay_to
    assert payment.authorization.nonce == b"\x07" * 32
    assert len(payment.signature) == 65
    assert payment.accepted is not None
    assert payment.accepted.asset == terms.asset
    assert payment.accepted.extra == terms.full_extra()


def test_a_payment_of_version_1_is_the_same_payment(
    payment_v1: Payment, payment_v2: Payment, header: Header
) -> None:
    old = decode_payment([], [header(payment_v1()).encode()])
    new = decode_payment([header(payment_v2()).encode()], [])
    assert old is not None
    assert new is not None
    assert old.authorization == new.authorization
    assert old.network == new.network == "eip155:84532"
    assert (old.version, old.accepted, old.resource_url) == (1, None, None)


@pytest.mark.parametrize(("v2", "v1"), [(1, 1), (2, 0), (0, 2)])
def test_two_payment_headers_are_refused(
    payment_v2: Payment, payment_v1: Payment, header: Header, v2: int, v1: int
) -> None:
    with pytest.raises(MalformedPayment, match="only once"):
        decode_payment([header(payment_v2())] * v2, [header(payment_v1())] * v1)


def test_a_payment_in_the_header_of_the_other_version_is_refused(
    payment_v2: Payment, payment_v1: Payment, header: Header
) -> None:
    with pytest.raises(MalformedPayment, match="x402Version must be 2"):
        decode_payment([header(payment_v1())], [])
    with pytest.raises(MalformedPayment, match="x402Version must be 1"):
        decode_payment([], [header(payment_v2())])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "no JSON"),
        ("not base64!", "base64"),
        ("schön", "base64"),
        (_base64("not json"), "no JSON"),
        (_base64("[]"), "no JSON object"),
        (_base64('"text"'), "no JSON object"),
        (_base64("null"), "no JSON object"),
        (_base64("{} {}"), "no JSON"),
        (_base64(b"\xff\xfe{}"), "UTF-8"),
        (_base64("{}".encode("utf-16")), "UTF-8"),
        (_base64(b"\xef\xbb\xbf{}"), "no JSON"),
        (_base64('{"a":1,"a":1}'), "a key twice"),
        (_base64('{"x":{"a":1,"\\u0061":1}}'), "a key twice"),
        (_base64('{"x402Version":2.0}'), "no integer"),
        (_base64('{"x":1e3}'), "no integer"),
        (_base64('{"x":NaN}'), "no integer"),
        (_base64('{"x":-Infinity}'), "no integer"),
        (_base64('{"x":12345678901}'), "too long"),
        (_base64("{}"), "x402Version is missing"),
        (_base64('{"x402Version":"2"}'), "x402Version must be an integer"),
        (_base64('{"x402Version":true}'), "x402Version must be an integer"),
        (_base64('{"x402Version":3}'), "x402Version must be 2"),
        (_base64('{"x402Version":2}'), "accepted is missing"),
        (_base64('{"x402Version":2,"accepted":[]}'), "accepted must be an object"),
    ],
)
def test_what_is_no_payment_is_malformed(value: str, problem: str) -> None:
    with pytest.raises(MalformedPayment, match=problem) as caught:
        decode_payment([value], [])
    assert caught.value.status == 400


WRONG_FIELDS: list[tuple[str, Any]] = [
    ("payload", None),
    ("payload", "0x"),
    ("payload.signature", None),
    ("payload.signature", "0x123"),
    ("payload.signature", "0x" + "zz" * 65),
    ("payload.signature", "0X" + "11" * 65),
    ("payload.signature", "11" * 65),
    ("payload.signature", "0x11 11"),
    ("payload.authorization", None),
    ("payload.authorization", []),
    ("payload.authorization.from", "0x" + "11" * 19),
    ("payload.authorization.from", "0x" + "11" * 21),
    ("payload.authorization.from", "0x" + "11" * 19 + "1１"),  # noqa: RUF001 - full width
    ("payload.authorization.to", 0),
    ("payload.authorization.value", 1_000_000),
    ("payload.authorization.value", "0x0f4240"),
    ("payload.authorization.value", str(2**256)),
    ("payload.authorization.value", "9" * 78),
    ("payload.authorization.value", "9" * 79),
    ("payload.authorization.value", ""),
    ("payload.authorization.validAfter", "-1"),
    ("payload.authorization.validAfter", False),
    ("payload.authorization.validBefore", "1790000120.0"),
    ("payload.authorization.nonce", "0x" + "07" * 31),
    ("payload.authorization.nonce", "7"),
    ("accepted.scheme", 1),
    ("accepted.network", "base-sepolia"),
    ("accepted.network", "eip155:"),
    ("accepted.network", "eip155:84532\n"),
    ("accepted.amount", 1_000_000),
    ("accepted.amount", "01000000"),
    ("accepted.asset", "USDC"),
    ("accepted.payTo", "merchant"),
    ("accepted.maxTimeoutSeconds", "120"),
    ("accepted.maxTimeoutSeconds", True),
    ("accepted.maxTimeoutSeconds", None),
    ("accepted.extra", "USDC"),
    ("resource", "https://api.example.com/"),
    ("resource.url", 5),
    ("resource.url", "https://api.example.com/\x00"),
    ("resource.url", "https://api.example.com/\ud800"),
]


@pytest.mark.parametrize(("path", "value"), WRONG_FIELDS)
def test_a_wrong_field_is_named_and_its_value_is_not_repeated(
    payment_v2: Payment, header: Header, path: str, value: Any
) -> None:
    document = copy.deepcopy(payment_v2())
    parent = document
    *parents, last = path.split(".")
    for key in parents:
        parent = parent[key]
    parent[last] = value
    with pytest.raises(MalformedPayment) as caught:
        decode_payment([header(document)], [])
    assert caught.value.field == path
    assert caught.value.members == {"field": path}
    assert caught.value.detail.startswith(f"{path} ")
    assert len(caught.value.detail) < 120
    assert "11" * 8 not in caught.value.detail


def test_no_refusal_repeats_the_signature(payment_v2: Payment, header: Header) -> None:
    document = payment_v2()
    secret = document["payload"]["signature"]
    document["payload"]["signature"] = secret + "f"
    with pytest.raises(MalformedPayment) as caught:
        decode_payment([header(document)], [])
    told = f"{caught.value!r} {caught.value.detail} {caught.value.members}"
    assert secret[2:20] not in told
    assert caught.value.__cause__ is None


def test_a_payment_does_not_show_its_signature(
    payment_v2: Payment, header: Header
) -> None:
    document = payment_v2()
    shown = repr(decode_payment([header(document)], []))
    assert "signature" not in shown


def test_unknown_members_are_tolerated(payment_v2: Payment, header: Header) -> None:
    document = payment_v2()
    plain = decode_payment([header(document)], [])
    document |= {"extensions": {"bazaar": {"info": {"x": [1, None, True]}}}}
    document["payload"]["memo"] = "hello"
    document["payload"]["authorization"]["memo"] = None
    document["accepted"]["memo"] = {}
    assert decode_payment([header(document)], []) == plain


@pytest.mark.parametrize("absent", [{}, {"resource": None}, {"extensions": None}])
def test_optional_members_may_be_absent_or_null(
    payment_v2: Payment, header: Header, absent: dict[str, None]
) -> None:
    document = payment_v2()
    del document["resource"]
    payment = decode_payment([header(document | absent)], [])
    assert payment is not None
    assert payment.resource_url is None


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"scheme": "upto"}, reasons.UNSUPPORTED_SCHEME),
        ({"scheme": "Exact"}, reasons.UNSUPPORTED_SCHEME),
        (
            {"network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"},
            reasons.INVALID_NETWORK,
        ),
    ],
)
def test_a_scheme_or_chain_that_we_cannot_read_asks_for_another_payment(
    payment_v2: Payment, header: Header, entry: dict[str, str], reason: str
) -> None:
    with pytest.raises(PaymentRejected) as caught:
        decode_payment([header(payment_v2(accepted=entry))], [])
    assert (caught.value.reason, caught.value.status) == (reason, 402)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"scheme": "deferred"}, reasons.UNSUPPORTED_SCHEME),
        ({"network": "polygon"}, reasons.INVALID_NETWORK),
        ({"network": "eip155:84532"}, reasons.INVALID_NETWORK),
        ({"network": "Base-Sepolia"}, reasons.INVALID_NETWORK),
    ],
)
def test_version_1_knows_our_networks_by_their_names_only(
    payment_v1: Payment, header: Header, entry: dict[str, str], reason: str
) -> None:
    with pytest.raises(PaymentRejected) as caught:
        decode_payment([], [header(payment_v1() | entry)])
    assert caught.value.reason == reason


def test_headers_are_written_as_ascii_that_atob_reads(header: Header) -> None:
    document = {"description": "Überprüfung — 検証 🪵"}
    raw = base64.b64decode(header(document), validate=True)
    assert raw.isascii()
    assert json.loads(raw) == document
