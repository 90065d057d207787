"""Nonces for sign-ins that no database needs to know before they are used.

A nonce is 16 random bytes and 16 bytes of authentication over them and the offer, so
the expiry in the offer is the nonce's own and cannot be stretched by a client.
"""

import secrets

from tallystick.kernel.seal import Seal

_PURPOSE = "siwx-nonce"
_RANDOM_BYTES = 16
_TAG_BYTES = 16
_TEXT_LENGTH = 2 * (_RANDOM_BYTES + _TAG_BYTES)


class SealedNonces:
    """Makes and knows nonces under the server's secret."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    def make(self, offer: bytes) -> str:
        """64 lower-case hexadecimal digits, bound to the offer."""
        drawn = secrets.token_bytes(_RANDOM_BYTES)
        tag = self._seal.mac(_PURPOSE, drawn + offer)[:_TAG_BYTES]
        return (drawn + tag).hex()

    def check(self, nonce: str, offer: bytes) -> bool:
        """Whether ``make`` made this very text for this offer, in constant time."""
        # Another case of letters would be a second text for one nonce.
        if len(nonce) != _TEXT_LENGTH or nonce != nonce.lower():
            return False
        try:
            raw = bytes.fromhex(nonce)
        except ValueError:
            return False
        drawn, tag = raw[:_RANDOM_BYTES], raw[_RANDOM_BYTES:]
        return self._seal.verify(_PURPOSE, drawn + offer, tag)
