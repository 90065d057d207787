"""What is hashed tells any two journals apart, and stays the same for ever."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.ledger import digests
from tallystick.ledger.links import (
    BEFORE_THE_FIRST,
    FORMATS,
    Head,
    Link,
    transaction_digest,
)
from tallystick.ledger.models import (
    LedgerAccount,
    LedgerTransaction,
    LotRow,
    TransferRow,
)

# Values whose texts could be taken for one another, were they only put together.
_VALUES = st.sampled_from(
    [None, 0, 1, -1, 10, 1.5, "", "-", "i1;", "s0:", "1", b"", b"-", b"i1;", b"s0:"]
)
_TRANSACTIONS = st.tuples(
    st.tuples(_VALUES, _VALUES), st.lists(st.tuples(_VALUES, _VALUES), max_size=2)
)


@given(_TRANSACTIONS, _TRANSACTIONS)
def test_what_differs_has_another_digest(one: Any, other: Any) -> None:
    same = repr(one) == repr(other)
    assert (transaction_digest(*one) == transaction_digest(*other)) == same


@pytest.mark.parametrize("number", FORMATS)
def test_the_formats_are_those_of_the_first_seal(number: int) -> None:
    """Seals that were made with yesterday's code must verify for ever."""
    journal, seal = b"tallystick journal %d" % number, b"tallystick seal %d" % number
    digest = transaction_digest(
        (1, "charge", b"\0", "\xe9", None),
        [(2, -5), (1 << 62, "2:x")],
        format_=number,
    )
    written = b"i1;s6:chargeb1:\0s2:\xc3\xa9-i2;i2;i-5;i4611686018427387904;s3:2:x"
    assert digest == sha256(journal + written).digest()[:16]

    # Text that no encoding has, which SQLite keeps as well.
    digest = transaction_digest(("\ud800",), [], format_=number)
    written = b"s3:\xed\xa0\x80i0;"
    assert digest == sha256(journal + written).digest()[:16]

    # Nobody posts a fraction, but SQLite lets a forger write one.
    written = b"?s3:1.5i0;"
    fraction = transaction_digest((1.5,), [], format_=number)
    assert fraction == sha256(journal + written).digest()[:16]

    made = Link.after(Head(1, b"\1" * 32), {9: digest, 7: bytes(16)}, now_ms=10**12)
    assert made.format == 2
    link = replace(made, format=number)
    assert list(link.sealed().items()) == [(7, bytes(16)), (9, digest)]
    ids = b"\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\x09"
    written = b"i2;b32:" + b"\1" * 32 + b"i1000000000000;b16:" + ids
    written += b"b32:" + bytes(16) + digest
    assert link.digest() == sha256(seal + written).digest()


def test_the_first_format_knew_no_lots() -> None:
    transfer = tuple(range(20))
    posted = digests.PostedRows((1, "charge"), [transfer])
    assert posted.digest() == transaction_digest((1, "charge"), [transfer], format_=2)
    old = transaction_digest((1, "charge"), [transfer[:-6]], format_=1)
    assert posted.digest(1) == old


def test_every_column_of_the_journal_is_hashed() -> None:
    """A column that was added needs another format; the others stay as they are."""
    transaction, transfer, account = (
        {column.name for column in model.__table__.columns}  # type: ignore[attr-defined]
        for model in (LedgerTransaction, TransferRow, LedgerAccount)
    )
    assert all(f"{one}" in digests._TRANSACTIONS for one in transaction)
    assert all(f"transfer.{one}" in digests._TRANSFERS for one in transfer)
    for side in ("debit", "credit"):
        assert all(f"{side}.{one}" in digests._TRANSFERS for one in account)
    changing = {"remaining", "is_open"}
    lot = {column.name for column in LotRow.__table__.columns}  # type: ignore[attr-defined]
    assert all(f"lot.{one}" in digests._TRANSFERS for one in lot - changing)


def test_a_link_that_was_cut_says_so() -> None:
    whole = Link.after(BEFORE_THE_FIRST, {7: bytes(16), 9: bytes(16)}, now_ms=1)
    with pytest.raises(ValueError, match=r"^a link has as many digests as ids$"):
        replace(whole, digests=bytes(16)).sealed()
    with pytest.raises(ValueError, match=r"^an id has eight bytes$"):
        replace(whole, transaction_ids=bytes(15)).sealed()


@pytest.mark.parametrize(
    "bad", ["", "1", "1:", "1:ab", f"0:{'ab' * 32}", "x:" + "0" * 64]
)
def test_a_note_that_is_no_seal_is_refused(bad: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # int() and fromhex() say it
        Head.noted(bad)


@pytest.mark.parametrize("bad", [f"0:{'ab' * 32}", "1:ab"])
def test_a_note_of_no_seal_is_told_what_a_note_is(bad: str) -> None:
    with pytest.raises(ValueError, match=r"^a seal is noted as its number"):
        Head.noted(bad)


@pytest.mark.parametrize("number", [1, 12])
def test_a_note_is_read_as_it_was_written(number: int) -> None:
    head = Head(number, b"\xab" * 32)
    assert Head.noted(f" {head.note}\n") == head
    assert BEFORE_THE_FIRST.digest == bytes(32)
