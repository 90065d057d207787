"""A hash chain over the journal: each link seals transactions, and the link before.

Pure. What is hashed stays as it is for ever, for seals of years ago must verify:

- A value is a letter and its text: ``-`` for NULL, ``i`` and the decimal digits and
  ``;`` for an integer, ``s`` or ``b`` and the length in bytes and ``:`` and the bytes
  for text (UTF-8) or binary. So no two rows look the same.
- A transaction's digest is the first 16 bytes of the SHA-256 of ``tallystick journal
  2``, its row's values, the number of its transfers, and their rows' values.
- A link's digest is the SHA-256 of ``tallystick seal 2``, the number, the digest of the
  link before (zeros before the first), the time, the ids and the digests, as values.
- Links of the first format, with a 1 in the place of the 2, had transfers without the
  terms of the lots that they opened.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self

_ID_BYTES = 8
DIGEST_BYTES = 16
FORMATS = (1, 2)
NEWEST_FORMAT = FORMATS[-1]
_JOURNAL = b"tallystick journal %d"
_SEAL = b"tallystick seal %d"


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends: the number and the digest (32 bytes) of its last link."""

    number: int
    digest: bytes

    @property
    def note(self) -> str:
        """What an operator writes down: ``12:`` and the digest in hexadecimal."""
        return f"{self.number}:{self.digest.hex()}"

    @classmethod
    def noted(cls, note: str) -> Self:
        """What was written down; raises ``ValueError`` for any other text."""
        number, _, digest = note.strip().partition(":")
        head = cls(int(number), bytes.fromhex(digest))
        if head.number < 1 or len(head.digest) != len(BEFORE_THE_FIRST.digest):
            raise ValueError("a seal is noted as its number, a colon and 64 digits")
        return head


BEFORE_THE_FIRST = Head(0, bytes(32))


@dataclass(frozen=True, slots=True)
class Link:
    """Transactions sealed at once; ids ascend, 8 bytes each, a digest has 16.

    ``format`` is one of ``FORMATS``, and that of the transactions' digests, too.
    """

    number: int
    previous: bytes
    sealed_at_ms: int
    transaction_ids: bytes
    digests: bytes
    format: int = NEWEST_FORMAT

    @classmethod
    def after(cls, head: Head, digests: Mapping[int, bytes], *, now_ms: int) -> Self:
        """The next link; the transactions' digests by id, in the newest format."""
        ids = sorted(digests)
        return cls(
            head.number + 1,
            head.digest,
            now_ms,
            struct.pack(f">{len(ids)}q", *ids),
            b"".join(digests[one] for one in ids),
        )

    def digest(self) -> bytes:
        """What the next link names."""
        content = (
            self.number,
            self.previous,
            self.sealed_at_ms,
            self.transaction_ids,
            self.digests,
        )
        return sha256(_SEAL % self.format + _encoded(content)).digest()

    def sealed(self) -> dict[int, bytes]:
        """The digests of its transactions by id; raises ``ValueError`` if malformed."""
        ids = unpacked(self.transaction_ids)
        if len(self.digests) != DIGEST_BYTES * len(ids):
            raise ValueError("a link has as many digests as ids")
        starts = range(0, len(self.digests), DIGEST_BYTES)
        digests = [self.digests[one : one + DIGEST_BYTES] for one in starts]
        return dict(zip(ids, digests, strict=True))


def unpacked(transaction_ids: bytes) -> Sequence[int]:
    """The ids of a link; raises ``ValueError`` when they are malformed."""
    count, rest = divmod(len(transaction_ids), _ID_BYTES)
    if rest:
        raise ValueError("an id has eight bytes")
    return struct.unpack(f">{count}q", transaction_ids)


def transaction_digest(
    transaction: Sequence[Any],
    transfers: Sequence[Sequence[Any]],
    *,
    format_: int = NEWEST_FORMAT,
) -> bytes:
    """16 bytes that stand for a transaction's row and its transfers' in their order."""
    values = [*transaction, len(transfers)]
    for one in transfers:
        values += one
    return sha256(_JOURNAL % format_ + _encoded(values)).digest()[:DIGEST_BYTES]


def _encoded(values: Iterable[Any]) -> bytes:
    return b"".join([_ENCODERS.get(type(one), _foreign)(one) for one in values])


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return b"s%d:%b" % (len(encoded), encoded)


def _foreign(value: Any) -> bytes:
    """Nobody posts such a value, but SQLite lets a forger write a fraction."""
    return b"?" + _text(repr(value))


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"-",
    int: lambda value: b"i%d;" % value,
    str: _text,
    bytes: lambda value: b"b%d:%b" % (len(value), value),
}
