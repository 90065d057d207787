"""Coinbase's way to say who asks: a short-lived JWT for each request.

As docs.cdp.coinbase.com/get-started/authentication/jwt-authentication has it, for both
kinds of keys: Ed25519 (64 bytes in base64, seed and public key) and ES256 (PEM).
"""

import json
import secrets
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass, field
from typing import Any, Final

from Crypto.Hash import SHA256
from Crypto.PublicKey import ECC
from Crypto.Signature import DSS, eddsa

_LIFETIME_SECONDS: Final = 120
_SEED_BYTES: Final = 32


class NoCdpKey(ValueError):
    """The secret is of neither kind; it is not repeated."""


@dataclass(frozen=True, slots=True)
class CdpKey:
    """An API key of the Coinbase Developer Platform. Its secret is never shown."""

    key_id: str
    secret: str = field(repr=False)
    _key: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", _read(self.secret))

    def bearer(self, method: str, host: str, path: str, now_seconds: int) -> str:
        """The value of ``Authorization`` for one request, good for two minutes."""
        header = {
            "alg": "ES256" if self._is_p256 else "EdDSA",
            "kid": self.key_id,
            "typ": "JWT",
            "nonce": secrets.token_hex(16),
        }
        claims = {
            "sub": self.key_id,
            "iss": "cdp",
            "iat": now_seconds,
            "nbf": now_seconds,
            "exp": now_seconds + _LIFETIME_SECONDS,
            "uris": [f"{method} {host}{path}"],
        }
        signed = f"{_part(header)}.{_part(claims)}"
        return f"Bearer {signed}.{_unpadded(self._sign(signed.encode()))}"

    @property
    def _is_p256(self) -> bool:
        return bool(self._key.curve == "NIST P-256")

    def _sign(self, message: bytes) -> bytes:
        if self._is_p256:
            # As RFC 7518 has it: r and s, 32 bytes each, and no DER.
            signer = DSS.new(self._key, "fips-186-3", encoding="binary")
            return bytes(signer.sign(SHA256.new(message)))
        return bytes(eddsa.new(self._key, "rfc8032").sign(message))


def _read(secret: str) -> Any:
    # One line of an environment variable cannot hold a PEM's lines otherwise.
    text = secret.strip().replace("\\n", "\n")
    try:
        if text.startswith("-----BEGIN"):
            key = ECC.import_key(text)
            is_one = key.has_private() and key.curve in {"NIST P-256", "Ed25519"}
        else:
            raw = b64decode(text, validate=True)
            seed = raw[:_SEED_BYTES]
            # Bytes, as its documentation says and its stub does not.
            key = ECC.construct(curve="Ed25519", seed=seed)  # type: ignore[arg-type]
            public = key.public_key().export_key(format="raw")
            is_one = raw[_SEED_BYTES:] in {b"", public}
    except (ValueError, IndexError, TypeError, Base64Error):
        raise NoCdpKey from None
    if not is_one:
        raise NoCdpKey
    return key


def _part(document: dict[str, Any]) -> str:
    return _unpadded(json.dumps(document, separators=(",", ":")).encode())


def _unpadded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()
