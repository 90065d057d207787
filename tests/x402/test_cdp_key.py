"""Coinbase can tell who asks, for each request anew; nobody learns the key."""

import base64
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tallystick.x402.cdp_key import CdpKey, NoCdpKey

ID = "11111111-2222-3333-4444-555555555555"
HOST = "api.cdp.coinbase.com"
PATH = "/platform/v2/x402/settle"


def ed25519_pair() -> tuple[str, Any]:
    key = ed25519.Ed25519PrivateKey.generate()
    raw = key.private_bytes_raw() + key.public_key().public_bytes_raw()
    return base64.b64encode(raw).decode(), key.public_key()


def p256_pair() -> tuple[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return pem.decode(), key.public_key()


KINDS = pytest.mark.parametrize(
    ("pair", "algorithm"), [(ed25519_pair, "EdDSA"), (p256_pair, "ES256")]
)


def decoded(bearer: str, public: Any, algorithm: str) -> tuple[dict[str, Any], Any]:
    word, token = bearer.split(" ")
    assert word == "Bearer"
    claims = jwt.decode(token, public, algorithms=[algorithm], issuer="cdp")
    return claims, jwt.get_unverified_header(token)


@KINDS
def test_a_token_says_who_asks_for_what_and_for_two_minutes(
    pair: Any, algorithm: str
) -> None:
    secret, public = pair()
    now = int(time.time())
    bearer = CdpKey(ID, secret).bearer("POST", HOST, PATH, now)
    claims, header = decoded(bearer, public, algorithm)
    assert claims == {
        "sub": ID,
        "iss": "cdp",
        "iat": now,
        "nbf": now,
        "exp": now + 120,
        "uris": [f"POST {HOST}{PATH}"],
    }
    nonce = header.pop("nonce")
    assert len(nonce) == 32
    assert header == {"alg": algorithm, "kid": ID, "typ": "JWT"}


@KINDS
def test_a_token_of_another_key_is_refused(pair: Any, algorithm: str) -> None:
    bearer = CdpKey(ID, pair()[0]).bearer("POST", HOST, PATH, int(time.time()))
    with pytest.raises(jwt.InvalidSignatureError):
        decoded(bearer, pair()[1], algorithm)


def test_no_two_tokens_are_alike() -> None:
    key = CdpKey(ID, ed25519_pair()[0])
    assert key.bearer("POST", HOST, PATH, 1) != key.bearer("POST", HOST, PATH, 1)


def test_a_pem_may_stand_in_one_line() -> None:
    secret, public = p256_pair()
    key = CdpKey(ID, secret.replace("\n", "\\n"))
    bearer = key.bearer("POST", HOST, PATH, int(time.time()))
    assert decoded(bearer, public, "ES256")


@KINDS
def test_a_key_is_never_shown(pair: Any, algorithm: str) -> None:
    secret, _ = pair()
    shown = repr(CdpKey(ID, secret))
    assert shown == f"CdpKey(key_id='{ID}')"


def _half_wrong() -> str:
    raw = bytearray(base64.b64decode(ed25519_pair()[0]))
    raw[-1] ^= 1
    return base64.b64encode(raw).decode()


def _another_curve() -> str:
    key = ec.generate_private_key(ec.SECP256K1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem.decode()


def _public_half() -> str:
    pem = p256_pair()[1].public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return str(pem.decode())


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "no key",
        "AAAA",
        "ü",
        "A" * 88,
        _half_wrong(),
        _another_curve(),
        _public_half(),
    ],
    ids=range(8),
)
def test_what_is_no_key_of_theirs_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(NoCdpKey) as caught:
        CdpKey(ID, secret)
    assert str(caught.value) == ""
