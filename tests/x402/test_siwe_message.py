import pytest
from eth_account.messages import _hash_eip191_message, encode_defunct
from eth_utils import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st
from x402.extensions.sign_in_with_x import create_siwx_message
from x402.extensions.sign_in_with_x.types import SIWxPayload

from tallystick.x402.fields import FieldRefused
from tallystick.x402.siwe_message import (
    SignInMessage,
    format_time,
    origin_of,
    parse_time,
    personal_digest,
)

LATEST_SECONDS = 253402300799  # 9999-12-31T23:59:59Z
TIMES = st.integers(0, LATEST_SECONDS).map(format_time)
HOSTS = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}(:[0-9]{1,5})?", fullmatch=True)
PATHS = st.from_regex(
    r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]{0,9}){0,3}(\?[a-z=&]{0,9})?", fullmatch=True
)
STATEMENTS = st.from_regex(r"[A-Za-z0-9 .,:;!?()/'*+=@&$#~_-]{1,60}", fullmatch=True)


@st.composite
def messages(draw: st.DrawFn) -> SignInMessage:
    domain = draw(HOSTS)
    return SignInMessage(
        domain=domain,
        uri=f"https://{domain}{draw(PATHS)}",
        statement=draw(st.none() | STATEMENTS),
        chain_id=draw(st.integers(1, 2**40)),
        nonce=draw(st.from_regex(r"[A-Za-z0-9]{8,64}", fullmatch=True)),
        issued_at=draw(TIMES),
        expiration_time=draw(TIMES),
    )


@settings(deadline=None)
@given(messages(), st.binary(min_size=20, max_size=20))
def test_the_text_is_the_one_that_stock_clients_sign(
    message: SignInMessage, raw_address: bytes
) -> None:
    address = to_checksum_address(raw_address)
    theirs = SIWxPayload(
        domain=message.domain,
        address=address,
        uri=message.uri,
        version="1",
        chain_id=f"eip155:{message.chain_id}",
        type="eip191",
        nonce=message.nonce,
        issued_at=message.issued_at,
        statement=message.statement,
        expiration_time=message.expiration_time,
        signature="0x",
    )
    assert message.text(address) == create_siwx_message(theirs, address)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=200))
def test_the_digest_is_the_one_of_personal_sign(text: str) -> None:
    assert personal_digest(text) == _hash_eip191_message(encode_defunct(text=text))


@settings(deadline=None)
@given(st.integers(0, LATEST_SECONDS))
def test_times_come_back_as_they_went(seconds: int) -> None:
    assert parse_time(format_time(seconds), "issuedAt") == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1790000000",
        "2026-11-21",
        "2026-11-21T08:30:00",
        "2026-11-21T08:30:00+00:00",
        "2026-11-21T08:30:00.000Z",
        "2026-11-21T08:30:00Z\n",
        "2026-11-21t08:30:00z",
        "2026-02-30T00:00:00Z",
        "2026-11-21T24:30:00Z",
        "0000-01-01T00:00:00Z",
        "２026-11-21T08:30:00Z",  # noqa: RUF001 - a full width digit
    ],
)
def test_other_forms_of_time_are_refused(text: str) -> None:
    with pytest.raises(FieldRefused, match="issuedAt"):
        parse_time(text, "issuedAt")


@pytest.mark.parametrize(
    ("uri", "origin"),
    [
        ("https://api.example.com", "https://api.example.com"),
        ("https://api.example.com/a/b?c=d#e", "https://api.example.com"),
        ("http://127.0.0.1:8402/", "http://127.0.0.1:8402"),
        ("http://[::1]:8402/x", "http://[::1]:8402"),
        ("https://api.example.com.evil.net/", "https://api.example.com.evil.net"),
    ],
)
def test_the_origin_is_scheme_host_and_port(uri: str, origin: str) -> None:
    assert origin_of(uri) == origin


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "api.example.com",
        "//api.example.com",
        "ftp://api.example.com",
        "javascript:alert(1)",
        "https://",
        "https:///x",
        "https://user@api.example.com/",
        "https://api.example.com@evil.net/",
        "https://api.example.com\\@evil.net/",
        "https://API.example.com/",
        "https://api.example.com:x/",
        "https://api.example.com /",
        "https://api.example.com/\n",
        "https://api.example.com/ü",
        "https://api.exämple.com/",
        'https://api.example.com/"',
        "https://api.example.com\t.evil.net/",
    ],
)
def test_what_could_be_read_as_two_origins_has_none(uri: str) -> None:
    assert origin_of(uri) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("domain", "api.example.com/path"),
        ("domain", "user@api.example.com"),
        ("domain", "api.example.com\nURI: https://evil.net"),
        ("domain", ""),
        ("uri", "https://api.example.com/\nVersion: 1"),
        ("statement", ""),
        ("statement", "two\nlines"),
        ("statement", 'a "quotation"'),
        ("statement", "Überweisung"),
        ("nonce", "short12"),
        ("nonce", "with-dash-12"),
        ("nonce", "12345678\n"),
    ],
)
def test_no_field_can_smuggle_in_another_line(field: str, value: str) -> None:
    facts = {
        "domain": "api.example.com",
        "uri": "https://api.example.com/",
        "statement": "Sign in.",
        "chain_id": 84532,
        "nonce": "12345678",
        "issued_at": format_time(0),
        "expiration_time": format_time(60),
    }
    SignInMessage(**facts)
    with pytest.raises(FieldRefused, match=field):
        SignInMessage(**facts | {field: value})
