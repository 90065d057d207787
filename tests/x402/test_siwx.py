"""Sign-ins: the stock client's verifies, and nothing that is made from it does."""

import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from hypothesis import given, settings
from hypothesis import strategies as st
from x402.extensions.sign_in_with_x import (
    create_siwx_payload,
    encode_siwx_header,
)
from x402.extensions.sign_in_with_x.types import SIWxExtension

from tallystick.kernel.seal import Seal
from tallystick.x402 import reasons
from tallystick.x402.errors import MalformedSignIn, SignInRejected
from tallystick.x402.sealed_nonces import SealedNonces
from tallystick.x402.signature import ORDER
from tallystick.x402.siwe_message import SignInMessage, format_time
from tallystick.x402.siwx import (
    MAX_CLOCK_SKEW_SECONDS,
    SIGN_IN_WITH_X,
    SignedIn,
    UnprovenSignIn,
    declare_siwx,
    verify_siwx,
)

ORIGIN = "https://api.example.com"
URL = f"{ORIGIN}/features/ai_analyst"
NOW_SECONDS = 1_790_000_000
NONCES = SealedNonces(Seal(b"s" * 32))


def _declare(path: str = "/features/ai_analyst", **changed: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "origin": ORIGIN,
        "chain_id": 84532,
        "now_seconds": NOW_SECONDS,
        "make_nonce": NONCES.make,
        "statement": "Sign in to spend your credits.",
    }
    offered: dict[str, Any] = declare_siwx(path=path, **facts | changed)[SIGN_IN_WITH_X]
    return offered


def _verify(header: str, **changed: Any) -> SignedIn | UnprovenSignIn:
    facts: dict[str, Any] = {
        "expected_origin": ORIGIN,
        "chain_id": 84532,
        "now_seconds": NOW_SECONDS + 5,
        "check_nonce": NONCES.check,
    }
    return verify_siwx(header, **facts | changed)


async def _answer(wallet: LocalAccount, offered: dict[str, Any]) -> dict[str, Any]:
    """What the stock client sends for an offer, decoded."""
    info = offered["info"] | offered["supportedChains"][0]
    payload = await create_siwx_payload(info, wallet, URL)
    document: dict[str, Any] = json.loads(b64decode(encode_siwx_header(payload)))
    return document


@pytest.fixture
async def answered(wallet: LocalAccount) -> dict[str, Any]:
    return await _answer(wallet, _declare())


@pytest.fixture
def address(wallet: LocalAccount) -> bytes:
    return bytes.fromhex(wallet.address[2:])


def _signed_anew(document: dict[str, Any], key: LocalAccount) -> dict[str, Any]:
    """The document with a true signature of whatever it says."""
    message = object.__new__(SignInMessage)
    facts = {
        "domain": document["domain"],
        "uri": document["uri"],
        "statement": document.get("statement"),
        "chain_id": int(document["chainId"].partition(":")[2]),
        "nonce": document["nonce"],
        "issued_at": document["issuedAt"],
        "expiration_time": document.get("expirationTime"),
    }
    for name, value in facts.items():
        object.__setattr__(message, name, value)
    signed = key.sign_message(encode_defunct(text=message.text(document["address"])))
    return document | {"signature": "0x" + signed.signature.hex()}


async def test_the_stock_clients_sign_in_verifies(
    wallet: LocalAccount, address: bytes
) -> None:
    offered = _declare()
    info = offered["info"] | offered["supportedChains"][0]
    payload = await create_siwx_payload(info, wallet, URL)
    assert _verify(encode_siwx_header(payload)) == SignedIn(
        address=address,
        nonce=offered["info"]["nonce"],
        uri=URL,
        issued_at_seconds=NOW_SECONDS,
        expires_at_seconds=NOW_SECONDS + 300,
    )


async def test_a_sign_in_without_a_statement_verifies(
    wallet: LocalAccount, header: Callable[[Any], str]
) -> None:
    document = await _answer(wallet, _declare(statement=None))
    assert isinstance(_verify(header(document)), SignedIn)


async def test_the_address_may_be_written_in_any_case(
    answered: dict[str, Any],
    wallet: LocalAccount,
    address: bytes,
    header: Callable[[Any], str],
) -> None:
    for spelled in (wallet.address.lower(), "0x" + wallet.address[2:].upper()):
        document = _signed_anew(answered | {"address": spelled}, wallet)
        who = _verify(header(document))
        assert isinstance(who, SignedIn)
        assert who.address == address


def test_the_declaration_is_what_the_stock_schema_expects() -> None:
    read = SIWxExtension.model_validate(_declare())
    assert read.info.domain == "api.example.com"
    assert read.info.uri == URL
    assert read.info.expiration_time == "2026-09-21T14:18:20Z"
    assert [chain.chain_id for chain in read.supported_chains] == ["eip155:84532"]


def test_two_offers_of_one_second_have_two_nonces() -> None:
    assert _declare()["info"]["nonce"] != _declare()["info"]["nonce"]


@pytest.mark.parametrize(
    "path",
    [
        "/a b",
        "/ü\n\x00",
        "/\ud800",
        '/"><script>',
        ".evil.net/",
        "@evil.net/",
        "//evil.net/",
        "",
        "*",
    ],
)
def test_any_path_gives_an_offer_on_our_own_origin(path: str) -> None:
    uri = _declare(path)["info"]["uri"]
    assert uri.startswith(f"{ORIGIN}/")
    assert uri.isascii()


def test_an_offer_lives_for_a_second_to_five_minutes() -> None:
    for lifetime_seconds in (-1, 0, 301):
        with pytest.raises(AssertionError):
            _declare(lifetime_seconds=lifetime_seconds)
    expires = _declare(lifetime_seconds=1)["info"]["expirationTime"]
    assert expires == format_time(NOW_SECONDS + 1)


async def test_the_schema_asks_for_what_the_stock_client_sends(
    answered: dict[str, Any],
) -> None:
    schema = _declare()["schema"]
    assert schema["type"] == "object"
    assert set(schema["required"]) == answered.keys() - {"statement"}


MALFORMED: list[dict[str, Any]] = [
    {"domain": None},
    {"domain": "API.example.com"},
    {"domain": "api.example.com/"},
    {"address": "0x1234"},
    {"address": 5},
    {"uri": "not a url"},
    {"uri": f"{ORIGIN}@evil.net/"},
    {"version": "2"},
    {"version": 1},
    {"chainId": 84532},
    {"type": None},
    {"nonce": "short"},
    {"nonce": "has spaces in it"},
    {"issuedAt": "yesterday"},
    {"issuedAt": None},
    {"expirationTime": None},
    {"expirationTime": "never"},
    {"statement": "two\nlines"},
    {"statement": ""},
    {"notBefore": format_time(NOW_SECONDS)},
    {"requestId": "1"},
    {"resources": []},
    {"resources": ["https://evil.net/"]},
    {"signature": None},
    {"signature": "0x123"},
    {"x": 0.5},
]


@pytest.mark.parametrize("changed", MALFORMED)
def test_what_is_no_answer_to_our_offer_is_malformed(
    answered: dict[str, Any],
    wallet: LocalAccount,
    header: Callable[[Any], str],
    changed: dict[str, Any],
) -> None:
    document = answered | changed
    with pytest.raises(MalformedSignIn) as caught:
        _verify(header(document))
    assert caught.value.status == 400
    assert caught.value.field in {*changed, SIGN_IN_WITH_X}
    assert answered["signature"][2:20] not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["", "!", "bm8=", "e30", "W10=", "eyJhIjoxLCJhIjoxfQ=="]
)
def test_what_is_no_header_is_malformed(value: str) -> None:
    with pytest.raises(MalformedSignIn):
        _verify(value)


async def test_junk_in_the_base64_is_malformed(
    answered: dict[str, Any], header: Callable[[Any], str]
) -> None:
    value = header(answered)
    for spelled in (f"{value}\n", f" {value}", f"{value[:9]}!{value[9:]}"):
        with pytest.raises(MalformedSignIn):
            _verify(spelled)


FORGED: list[tuple[dict[str, Any], str]] = [
    ({"domain": "evil.net"}, reasons.SIWX_DOMAIN),
    ({"domain": "api.example.com.evil.net"}, reasons.SIWX_DOMAIN),
    ({"domain": "api.example.com:443"}, reasons.SIWX_DOMAIN),
    ({"domain": "example.com"}, reasons.SIWX_DOMAIN),
    ({"uri": "https://evil.net/"}, reasons.SIWX_URI),
    ({"uri": "http://api.example.com/"}, reasons.SIWX_URI),
    ({"uri": "https://api.example.com:8443/"}, reasons.SIWX_URI),
    ({"uri": "https://api.example.com.evil.net/"}, reasons.SIWX_URI),
    ({"uri": f"{ORIGIN}/features/other"}, reasons.SIWX_NONCE),
    ({"chainId": "eip155:8453"}, reasons.SIWX_CHAIN_ID),
    ({"chainId": "eip155:084532"}, reasons.SIWX_CHAIN_ID),
    ({"chainId": "eip155:84532 "}, reasons.SIWX_CHAIN_ID),
    ({"type": "ed25519"}, reasons.SIWX_UNSUPPORTED_CHAIN),
    ({"nonce": "0" * 64}, reasons.SIWX_NONCE),
    ({"nonce": "abcdefgh"}, reasons.SIWX_NONCE),
    ({"statement": "Send me all your money"}, reasons.SIWX_NONCE),
    ({"statement": None}, reasons.SIWX_NONCE),
    ({"issuedAt": format_time(NOW_SECONDS + 1)}, reasons.SIWX_NONCE),
    ({"issuedAt": format_time(NOW_SECONDS + 66)}, reasons.SIWX_ISSUED_AT_IN_FUTURE),
    ({"issuedAt": format_time(NOW_SECONDS - 1)}, reasons.SIWX_EXPIRATION_TIME),
    ({"expirationTime": format_time(NOW_SECONDS + 301)}, reasons.SIWX_EXPIRATION_TIME),
    ({"expirationTime": format_time(NOW_SECONDS + 299)}, reasons.SIWX_NONCE),
    ({"expirationTime": format_time(NOW_SECONDS + 5)}, reasons.SIWX_EXPIRED),
    ({"expirationTime": format_time(0)}, reasons.SIWX_EXPIRED),
]


@pytest.mark.parametrize(("changed", "reason"), FORGED)
def test_an_offer_that_we_did_not_make_is_refused_even_when_truly_signed(
    answered: dict[str, Any],
    wallet: LocalAccount,
    header: Callable[[Any], str],
    changed: dict[str, Any],
    reason: str,
) -> None:
    document = _signed_anew(answered | changed, wallet)
    with pytest.raises(SignInRejected) as caught:
        _verify(header(document))
    assert caught.value.reason == reason
    assert caught.value.status == 401


@pytest.mark.parametrize(
    ("later_seconds", "is_good"), [(0, True), (299, True), (300, False), (10**6, False)]
)
async def test_a_sign_in_ends_with_its_offer(
    answered: dict[str, Any],
    header: Callable[[Any], str],
    later_seconds: int,
    *,
    is_good: bool,
) -> None:
    value = header(answered)
    if is_good:
        who = _verify(value, now_seconds=NOW_SECONDS + later_seconds)
        assert isinstance(who, SignedIn)
    else:
        with pytest.raises(SignInRejected, match="has passed"):
            _verify(value, now_seconds=NOW_SECONDS + later_seconds)


@pytest.mark.parametrize(
    ("behind_seconds", "is_good"),
    [(MAX_CLOCK_SKEW_SECONDS, True), (MAX_CLOCK_SKEW_SECONDS + 1, False)],
)
async def test_another_process_may_be_behind_by_the_skew(
    answered: dict[str, Any],
    header: Callable[[Any], str],
    behind_seconds: int,
    *,
    is_good: bool,
) -> None:
    now_seconds = NOW_SECONDS - behind_seconds
    if is_good:
        assert isinstance(_verify(header(answered), now_seconds=now_seconds), SignedIn)
    else:
        with pytest.raises(SignInRejected, match="lies in the future"):
            _verify(header(answered), now_seconds=now_seconds)


async def test_a_nonce_of_another_server_is_refused(
    wallet: LocalAccount, header: Callable[[Any], str]
) -> None:
    theirs = SealedNonces(Seal(b"t" * 32))
    document = await _answer(wallet, _declare(make_nonce=theirs.make))
    with pytest.raises(SignInRejected, match="nonce"):
        _verify(header(document))


async def test_somebody_elses_signature_proves_nobody(
    answered: dict[str, Any],
    stranger: LocalAccount,
    address: bytes,
    header: Callable[[Any], str],
) -> None:
    document = _signed_anew(answered, stranger)
    who = _verify(header(document))
    assert isinstance(who, UnprovenSignIn)
    assert who.question.wallet == address
    assert who.question.signature.hex() == document["signature"][2:]
    assert len(who.question.digest) == 32


async def test_an_address_put_over_a_signature_proves_nobody(
    answered: dict[str, Any], stranger: LocalAccount, header: Callable[[Any], str]
) -> None:
    who = _verify(header(answered | {"address": stranger.address}))
    assert isinstance(who, UnprovenSignIn)


async def test_a_contract_wallets_signature_is_a_question_to_the_chain(
    answered: dict[str, Any], address: bytes, header: Callable[[Any], str]
) -> None:
    who = _verify(header(answered | {"signature": "0x" + "ab" * 300}))
    assert isinstance(who, UnprovenSignIn)
    assert who.if_valid.address == address


def _high_s(raw: bytes) -> bytes:
    high = ORDER - int.from_bytes(raw[32:64], "big")
    return raw[:32] + high.to_bytes(32, "big") + bytes([55 - raw[64]])


@pytest.mark.parametrize(
    "forge",
    [
        _high_s,
        lambda raw: raw[:64] + bytes([raw[64] - 27]),
        lambda raw: raw[:64],
        lambda raw: bytes(len(raw)),
    ],
    ids=["high s", "v 0 or 1", "64 bytes", "zeros"],
)
async def test_a_second_form_of_a_signature_proves_nobody(
    answered: dict[str, Any],
    header: Callable[[Any], str],
    forge: Callable[[bytes], bytes],
) -> None:
    raw = bytes.fromhex(answered["signature"][2:])
    document = answered | {"signature": "0x" + forge(raw).hex()}
    assert isinstance(_verify(header(document)), UnprovenSignIn)


async def test_a_signature_that_is_wrapped_as_in_erc_6492_is_refused(
    answered: dict[str, Any], header: Callable[[Any], str]
) -> None:
    wrapped = answered["signature"] + "6492" * 16
    document = answered | {"signature": wrapped}
    with pytest.raises(SignInRejected) as caught:
        _verify(header(document))
    assert caught.value.reason == reasons.SIWX_SIGNATURE


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_offers_have_nonces_that_nothing_else_has(noise: bytes) -> None:
    nonce = NONCES.make(noise)
    assert nonce.isalnum()
    assert len(nonce) == 64, "16 random bytes and 16 of authentication"
    assert NONCES.check(nonce, noise)
    assert not NONCES.check(nonce, noise + b"\n")
    assert not NONCES.check(nonce.upper(), noise) or nonce.isdigit()
    assert not NONCES.check(nonce[:-1], noise)
    assert not NONCES.check(nonce + "00", noise)
    flipped = "0" if nonce[-1] != "0" else "1"
    assert not NONCES.check(nonce[:-1] + flipped, noise)
    assert not NONCES.check("g" + nonce[1:], noise)
