"""The text of a sign-in that a wallet shows and signs (EIP-4361, EIP-191).

Written here, because the ``siwe`` package imports web3 and its parser is slow; a test
holds both to the same text.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from tallystick.x402.fields import FieldRefused
from tallystick.x402.keccak import keccak256

_RESERVED: Final = r":/?#\[\]@!$&'()*+,;="
_UNRESERVED: Final = r"A-Za-z0-9\-._~"

# RFC 3986 and the grammar of EIP-4361; none of them lets a line break through.
_URI: Final = re.compile(
    r"(?P<origin>https?://(?P<domain>(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?))"
    rf"(?:[/?#][%{_RESERVED}{_UNRESERVED}]*)?"
)
_STATEMENT: Final = re.compile(rf"[ {_RESERVED}{_UNRESERVED}]+")
_NONCE: Final = re.compile(r"[A-Za-z0-9]{8,256}")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


@dataclass(frozen=True, slots=True)
class SignInMessage:
    """What is signed, except for who signs. Times are RFC 3339 text in UTC.

    Raises ``FieldRefused`` for text that the grammar does not allow.
    """

    domain: str
    uri: str
    statement: str | None
    chain_id: int
    nonce: str
    issued_at: str
    expiration_time: str

    def __post_init__(self) -> None:
        if origin_of(f"https://{self.domain}") != f"https://{self.domain}":
            raise FieldRefused("domain", "is no host in lower case")
        if origin_of(self.uri) is None:
            raise FieldRefused("uri", "is no http URL with a host in lower case")
        if self.statement is not None and not _STATEMENT.fullmatch(self.statement):
            raise FieldRefused("statement", "holds characters that EIP-4361 forbids")
        if not _NONCE.fullmatch(self.nonce):
            raise FieldRefused("nonce", "is not 8 or more letters and digits")

    def text(self, address: str) -> str:
        """The message for the address, which is signed in the case it is written."""
        statement = "" if self.statement is None else f"{self.statement}\n"
        return (
            f"{self.domain} wants you to sign in with your Ethereum account:\n"
            f"{address}\n"
            "\n"
            f"{statement}"
            "\n"
            f"URI: {self.uri}\n"
            "Version: 1\n"
            f"Chain ID: {self.chain_id}\n"
            f"Nonce: {self.nonce}\n"
            f"Issued At: {self.issued_at}\n"
            f"Expiration Time: {self.expiration_time}"
        )

    def offer(self) -> bytes:
        """Everything that the server chose, for a nonce to be bound to."""
        facts = (
            self.domain,
            self.uri,
            self.statement or "",
            str(self.chain_id),
            self.issued_at,
            self.expiration_time,
        )
        return "\n".join(facts).encode()


def personal_digest(text: str) -> bytes:
    """The 32 bytes that ``personal_sign`` signs for a text (EIP-191, version 0x45)."""
    raw = text.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n%d" % len(raw) + raw)


def origin_of(uri: str) -> str | None:
    """Scheme, host and port of an http URL, or ``None`` for any other text."""
    match = _URI.fullmatch(uri)
    return match["origin"] if match else None


def format_time(seconds: int) -> str:
    """RFC 3339 in UTC, to the second: ``2026-11-21T08:30:00Z``."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str, field: str) -> int:
    """Unix seconds of what ``format_time`` writes; raises ``FieldRefused``."""
    try:
        if _TIME.fullmatch(text):
            return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        pass
    raise FieldRefused(field, "is no time such as 2026-11-21T08:30:00Z")
