"""Quotes: what a challenge offered, carried by the client and sealed by us.

A 402 writes nothing. What it promised travels in ``accepts[].extra.quote``
and comes back with the payment; the seal makes it ours. Clients of version 1 echo
nothing, so their payments are matched with what we would offer now and with what
catalogs of the last minutes offered.
"""

import base64
import binascii
import json
from dataclasses import asdict, dataclass

from tallystick.kernel.money import MicroCredits, UsdcAtomic
from tallystick.kernel.seal import Seal
from tallystick.x402.errors import PaymentRejected

_PURPOSE = "quote"
_TAG_BYTES = 16
_LARGEST_TOKEN = 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """So many credits for so much USDC; ``bonus`` credits come on top."""

    usdc: UsdcAtomic
    credits: MicroCredits
    bonus: MicroCredits


@dataclass(frozen=True, slots=True)
class Quote:
    """An offer made for one request. ``binding`` is 16 bytes in hex, time in seconds.

    ``charge`` is what the request costs in micro-credits, 0 for a purchase.
    """

    binding: str
    catalog_version: str
    usdc: UsdcAtomic
    credits: MicroCredits
    bonus: MicroCredits
    charge: MicroCredits
    purpose: str
    expires_at: int
    pay_to: str
    """The address to pay to, in hex without 0x; another may be offered by then."""


def seal_quote(seal: Seal, quote: Quote) -> str:
    """The quote as text that only we can make."""
    fields = json.dumps(list(asdict(quote).values()), separators=(",", ":")).encode()
    tag = seal.mac(_PURPOSE, fields)[:_TAG_BYTES]
    return base64.urlsafe_b64encode(tag + fields).rstrip(b"=").decode()


def open_quote(seal: Seal, token: str, *, now_seconds: int) -> Quote:
    """The quote behind the text.

    Raises ``PaymentRejected`` when it is not ours or its time is over.
    """
    quote = _read(seal, token)
    if quote is None:
        raise PaymentRejected("invalid_payment_requirements", "the quote is not ours")
    if quote.expires_at <= now_seconds:
        raise PaymentRejected("invalid_payment_requirements", "the quote has expired")
    return quote


def _read(seal: Seal, token: str) -> Quote | None:
    if len(token) > _LARGEST_TOKEN or not token.isascii():
        return None
    try:
        sealed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        return None
    tag, fields = sealed[:_TAG_BYTES], sealed[_TAG_BYTES:]
    if not seal.verify(_PURPOSE, fields, tag):
        return None
    values = json.loads(fields)
    # One of an older version with other fields is none of ours any more.
    return Quote(*values) if len(values) == len(Quote.__slots__) else None
