"""A03: however a payment is spelled, it is the same payment or none."""

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.x402.errors import MalformedPayment, PaymentRejected
from tallystick.x402.headers import decode_payment

SAME, REFUSED = True, False
Spelling = tuple[bool, Callable[[str], Any]]
Payment = Callable[..., dict[str, Any]]

UINT_SPELLINGS: list[Spelling] = [
    (SAME, str),
    (REFUSED, lambda text: f"+{text}"),
    (REFUSED, lambda text: f"0{text}"),
    (REFUSED, lambda text: f" {text}"),
    (REFUSED, lambda text: f"{text} "),
    (REFUSED, lambda text: f"{text}\n"),
    (REFUSED, lambda text: f"{text}.0"),
    (REFUSED, lambda text: f"{text}e0"),
    (REFUSED, lambda text: f"-{text}"),
    (REFUSED, lambda text: f"{text[:1]}_{text[1:]}" if text[1:] else "_0"),
    (REFUSED, lambda text: hex(int(text))),
    (REFUSED, lambda text: text.translate({48 + d: 0x660 + d for d in range(10)})),
    (REFUSED, lambda text: text.translate({48 + d: 0xFF10 + d for d in range(10)})),
    (REFUSED, lambda text: "²" + text),
    (REFUSED, int),
    (REFUSED, lambda text: [text]),
    (REFUSED, lambda _text: None),
    (REFUSED, lambda text: text[:0]),
]


def _random_case(text: str) -> str:
    draw = random.Random(text)
    return "0x" + "".join(draw.choice((c.lower(), c.upper())) for c in text[2:])


HEX_SPELLINGS: list[Spelling] = [
    (SAME, str),
    (SAME, str.lower),
    (SAME, lambda text: "0x" + text[2:].upper()),
    (SAME, _random_case),
    (REFUSED, lambda text: "0X" + text[2:]),
    (REFUSED, lambda text: text[2:]),
    (REFUSED, lambda text: text + " "),
    (REFUSED, lambda text: text + "\n"),
    (REFUSED, lambda text: " " + text),
    (REFUSED, lambda text: f"{text[:8]} {text[8:]}"),
    (REFUSED, lambda text: text[:-1]),
    (REFUSED, lambda text: text + "0"),
    (REFUSED, lambda text: "0x" + text),
    (REFUSED, lambda text: f"0x_{text[3:]}"),
    (REFUSED, lambda text: text[:-1] + "１"),  # noqa: RUF001 - a full width digit
    (REFUSED, lambda text: int(text[2:10], 16)),
]

FIELDS: dict[tuple[str, ...], list[Spelling]] = {
    ("payload", "signature"): HEX_SPELLINGS,
    ("payload", "authorization", "from"): HEX_SPELLINGS,
    ("payload", "authorization", "to"): HEX_SPELLINGS,
    ("payload", "authorization", "value"): UINT_SPELLINGS,
    ("payload", "authorization", "validAfter"): UINT_SPELLINGS,
    ("payload", "authorization", "validBefore"): UINT_SPELLINGS,
    ("payload", "authorization", "nonce"): HEX_SPELLINGS,
    ("accepted", "amount"): UINT_SPELLINGS,
    ("accepted", "asset"): HEX_SPELLINGS,
    ("accepted", "payTo"): HEX_SPELLINGS,
}


def _shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key[::-1])
        return {key: _shuffled(value[key]) for key in keys}
    return value


def _doubled(document: Any) -> str:
    text = json.dumps(document)
    return text.replace('"from":', '"from": "0x", "from":')


JSON_SPELLINGS: list[tuple[bool, Callable[[Any], str]]] = [
    (SAME, json.dumps),
    (SAME, lambda document: json.dumps(document, indent=3)),
    (SAME, lambda document: json.dumps(document, separators=(",", ":"))),
    (SAME, lambda document: "\r\n\t " + json.dumps(document) + " \n"),
    (SAME, lambda document: json.dumps(_shuffled(document))),
    (SAME, lambda document: json.dumps(document | {"extensions": {"x": "ü🪵"}})),
    (SAME, lambda document: json.dumps(document).replace('"to"', '"\\u0074o"')),
    (REFUSED, _doubled),
    (REFUSED, lambda document: json.dumps(document) + "}"),
    (REFUSED, lambda document: json.dumps(document) + "{}"),
    (REFUSED, lambda document: "\ufeff" + json.dumps(document)),
    (REFUSED, lambda document: json.dumps([document])),
    (REFUSED, lambda document: json.dumps(json.dumps(document))),
    (REFUSED, lambda document: json.dumps(document).replace('"', "'")),
    (REFUSED, lambda document: json.dumps(document)[:-1] + ",}"),
    (REFUSED, lambda document: json.dumps(document | {"x": float("nan")})),
    (REFUSED, lambda document: json.dumps(document | {"x": 0.5})),
    (REFUSED, lambda document: json.dumps(document | {"x": 10**40})),
    (REFUSED, lambda document: "// comment\n" + json.dumps(document)),
]


def _loose_bits(encoded: str) -> str:
    """Set a bit that no byte uses; loose decoders take both spellings."""
    body = encoded.rstrip("=")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = alphabet[alphabet.index(body[-1]) | 1]
    return body[:-1] + last + encoded[len(body) :]


BASE64_SPELLINGS: list[tuple[bool, Callable[[str], str | bytes]]] = [
    (SAME, str),
    (SAME, str.encode),
    (REFUSED, lambda encoded: encoded.rstrip("=") or "A"),
    (REFUSED, lambda encoded: encoded + "="),
    (REFUSED, lambda encoded: encoded + "\n"),
    (REFUSED, lambda encoded: " " + encoded),
    (REFUSED, lambda encoded: encoded[:40] + "\r\n " + encoded[40:]),
    (REFUSED, lambda encoded: encoded[:40] + "!" + encoded[40:]),
    (REFUSED, lambda encoded: encoded[:40] + "-_" + encoded[40:]),
    (REFUSED, lambda encoded: encoded[:40] + "====" + encoded[40:]),
    (REFUSED, lambda encoded: encoded + "QQ=="),
    (REFUSED, _loose_bits),
    (REFUSED, lambda encoded: "data:application/json;base64," + encoded),
    (REFUSED, lambda encoded: encoded.encode("utf-16")),
]


def _respelled(
    document: Any, path: tuple[str, ...], spell: Callable[[str], Any]
) -> Any:
    key, *rest = path
    inner = document[key]
    new = _respelled(inner, tuple(rest), spell) if rest else spell(inner)
    return document | {key: new}


def _padded(text: str, spell: Callable[[str], str | bytes]) -> str | bytes:
    """Base64 that ends in one padding sign, so that every spelling has its point."""
    raw = text.encode()
    raw += b" " * ((2 - len(raw)) % 3)
    return spell(base64.b64encode(raw).decode())


@settings(max_examples=500, deadline=None)
@given(draw=st.data())
def test_every_spelling_is_the_same_payment_or_is_refused(
    payment_v2: Payment, header: Callable[[Any], str], draw: st.DataObject
) -> None:
    document = payment_v2()
    expected = decode_payment([header(document)], [])
    json_same, dump = draw.draw(st.sampled_from(JSON_SPELLINGS))
    base64_same, encode = draw.draw(st.sampled_from(BASE64_SPELLINGS))
    same = json_same and base64_same
    for path in draw.draw(st.sets(st.sampled_from(list(FIELDS)), max_size=4)):
        field_same, spell = draw.draw(st.sampled_from(FIELDS[path]))
        same = same and field_same
        document = _respelled(document, path, spell)
    value = _padded(dump(document), encode)
    if same:
        assert decode_payment([value], []) == expected
    else:
        with pytest.raises(MalformedPayment):
            decode_payment([value], [])


@pytest.mark.parametrize("path", FIELDS)
def test_each_spelling_of_each_field_alone(
    payment_v2: Payment, header: Callable[[Any], str], path: tuple[str, ...]
) -> None:
    expected = decode_payment([header(payment_v2())], [])
    for same, spell in FIELDS[path]:
        value = header(_respelled(payment_v2(), path, spell))
        if same:
            assert decode_payment([value], []) == expected
        else:
            with pytest.raises(MalformedPayment):
                decode_payment([value], [])


@pytest.mark.parametrize(("same", "dump"), JSON_SPELLINGS)
def test_each_spelling_of_the_json_alone(
    payment_v2: Payment,
    header: Callable[[Any], str],
    same: bool,  # noqa: FBT001 - the verdict of the table
    dump: Callable[[Any], str],
) -> None:
    value = base64.b64encode(dump(payment_v2()).encode())
    if same:
        assert decode_payment([value], []) == decode_payment([header(payment_v2())], [])
    else:
        with pytest.raises(MalformedPayment):
            decode_payment([value], [])


@pytest.mark.parametrize(("same", "encode"), BASE64_SPELLINGS)
def test_each_spelling_of_the_base64_alone(
    payment_v2: Payment,
    header: Callable[[Any], str],
    same: bool,  # noqa: FBT001 - the verdict of the table
    encode: Callable[[str], str | bytes],
) -> None:
    value = _padded(json.dumps(payment_v2()), encode)
    if same:
        assert decode_payment([value], []) == decode_payment([header(payment_v2())], [])
    else:
        with pytest.raises(MalformedPayment):
            decode_payment([value], [])


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_noise_is_refused_and_nothing_else_happens(noise: bytes, wrapped: bool) -> None:  # noqa: FBT001 - drawn
    value = base64.b64encode(noise) if wrapped else noise
    with pytest.raises(MalformedPayment):
        decode_payment([value], [])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@settings(deadline=None)
@given(draw=st.data())
def test_any_json_in_any_place_is_read_or_refused(
    payment_v2: Payment, draw: st.DataObject
) -> None:
    document = payment_v2()
    paths = [("payload",), ("accepted",), ("resource",), ("x402Version",), *FIELDS]
    paths += [("accepted", "extra"), ("accepted", "scheme"), ("accepted", "network")]
    path = draw.draw(st.sampled_from(paths))
    value = draw.draw(JSON_VALUES)
    document = _respelled(document, path, lambda _: value)
    encoded = base64.b64encode(json.dumps(document).encode())
    try:
        payment = decode_payment([encoded], [])
    except (MalformedPayment, PaymentRejected):
        return
    assert payment is not None
    assert payment.authorization.value == 1_000_000 or path[-1] == "value"
