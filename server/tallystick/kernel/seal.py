"""Message authentication with the server's own secret, one key for each purpose."""

import hashlib
import hmac
import secrets


class Seal:
    """Derives a key for each purpose, so that one purpose's tag never fits another.

    Raises ``ValueError`` for a secret of fewer than 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError("SECRET_KEY needs at least 32 bytes")
        self._secret = secret

    def mac(self, purpose: str, message: bytes) -> bytes:
        """32 bytes that only the holder of the secret can make."""
        key = hmac.digest(self._secret, b"tallystick/" + purpose.encode(), "sha256")
        return hmac.digest(key, message, "sha256")

    def verify(self, purpose: str, message: bytes, tag: bytes) -> bool:
        """Whether the tag (or its first 16 or more bytes) fits, in constant time."""
        if len(tag) < 16:
            return False
        return hmac.compare_digest(self.mac(purpose, message)[: len(tag)], tag)


def digest16(*parts: bytes) -> bytes:
    """16 bytes that stand for the parts in their order; lengths are part of it."""
    framed = b"".join([len(part).to_bytes(8, "big") + part for part in parts])
    return hashlib.blake2b(framed, digest_size=16).digest()


def random_token(size_bytes: int = 32) -> str:
    """URL-safe text with so many random bytes in it."""
    return secrets.token_urlsafe(size_bytes)
