"""Masking whatever looks like a secret, in values of any shape and in any text.

A logged payment header is a bearer cheque until it is settled, so this errs on the
side of masking: of 32-byte hex, which may be a private key or a hash, only what is
called a hash stays readable.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

MASK = "[redacted]"
_DEEPEST = 12
_LARGEST_PLAIN = 1 << 160  # above it: halves of a signature, private keys

_NAME = (
    r"signature|secret|passw|passphrase|private|mnemonic|seed.?phrase|credential"
    r"|authorization|cookie|bearer|x-payment|api.?key|(?:relayer|signing|access)_?keys?"
)
_SECRET_NAME = re.compile(rf"{_NAME}|token$|raw_?(?:transaction|tx)", re.IGNORECASE)
_HASH = re.compile(r"(?:0x|[0-9]{1,19}:)[0-9a-fA-F]{64}")  # a seal has its number
_HASH_NAME = re.compile(r"hash|nonce|block|root|topic|digest", re.IGNORECASE)

_PEM = r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
_QUOTE = r"""(?:\\{0,8}["'])?"""  # escaped, too, where JSON stands in JSON
_IS = rf"{_QUOTE}\s{{0,4}}[:=]\s{{0,4}}b?{_QUOTE}"
_HEADER = r"(?:proxy-)?authorization|(?:set-)?cookie|payment-signature|x-payment"
# What repeats before a required end is bounded: a hostile text must not take long.
_TEXT = re.compile(
    rf"(?P<pem>{_PEM})"
    # A header's whole line or quoted value.
    rf"""|(?P<head>\b(?:{_HEADER}){_IS})[^"'\\\r\n]+"""
    r"|(?P<scheme>\b(?:bearer|basic|digest)\s+)[A-Za-z0-9._~+/=-]{8,}"
    # name=value and "name": "value"
    rf"""|(?P<name>(?:{_NAME})\w{{0,30}}{_IS})[^\s"'\\,;&)}}]+"""
    r"""|(?P<query>[?&](?:api_?)?(?:key|token)=)[^\s"'\\&#]+"""
    # Credentials in a URL, and the key in the path of a hosted node's URL.
    r"""|(?P<url>://)(?:[^\s/?#"']{1,300}|[^\s/:@"']{0,300}:[^\s@"']{0,300})(?=@)"""
    r"|(?P<node>/v[0-9]+/)[A-Za-z0-9_-]{16,}"
    # Our own keys and Stripe's.
    r"|\b(?:tk|sk|mk|rk|whsec)_[A-Za-z0-9_+/=-]{12,}"
    r"|_secret_[A-Za-z0-9]{8,}"
    # Base64 of JSON, which begins with {" or a brace and a blank: payments, JWTs.
    r"|(?<![A-Za-z0-9])(?:eyJ|eyA|ewo|ew0|ewk)[A-Za-z0-9_.+/=-]{17,}"
    # Hex of 32 bytes or more, unless it is called a hash; long decimals.
    r"""|(?P<hash>(?:hash|nonce|block|root|topic|digest)\w{0,20}[\\"'\s:=(]{0,12})?"""
    r"(?:\b0x)?(?<![0-9a-fA-F])(?P<hex>[0-9a-fA-F]{64,})"
    r"|(?<![0-9])[0-9]{50,}",
    re.IGNORECASE | re.DOTALL,
)
_KEPT_BEFORE = ("head", "scheme", "name", "query", "url", "node")


def redact(value: Any) -> Any:
    """The value with everything that looks like a secret masked, at any depth.

    What is no plain value becomes text, because a renderer would print it unseen.
    """
    return _redact(value, 0)


def redact_text(text: str) -> str:
    """The text with everything that looks like a secret masked."""
    return _TEXT.sub(_mask, text)


def _mask(found: re.Match[str]) -> str:
    if found["hash"] and found["hex"] and len(found["hex"]) == 64:
        return found[0]
    kept = [found[name] for name in _KEPT_BEFORE if found[name]]
    return "".join(kept) + MASK


def _redact(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        return MASK
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return MASK if abs(value) > _LARGEST_PLAIN else value
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {
            redact_text(str(key)): _redact_named(str(key), item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(item, depth + 1) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            one.name: getattr(value, one.name) for one in dataclasses.fields(value)
        }
        return _redact(fields, depth)
    return redact_text(str(value))


def _redact_named(name: str, value: Any, depth: int) -> Any:
    if _SECRET_NAME.search(name):
        return MASK
    is_hash = isinstance(value, str) and _HASH.fullmatch(value)
    if is_hash and _HASH_NAME.search(name):
        return value
    return _redact(value, depth)
