"""The journal against its seals, as both were from revision 0005 to 0008.

Part of revision 0009 and frozen with it: it knows tables, not today's code. Two passes
in little memory: up the seals, each of which continues the one before, and down the
transactions beside the seals, newest first. A link's digest is SHA-256 over its values,
a transaction's the first 16 bytes of one (docs/decisions/0014).
"""

import struct
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

_AT_ONCE = 1_000
_SEALS_AT_ONCE = 50
_HIGHEST = (1 << 63) - 1
_EPOCH_MS, _ID_SHIFT = 1_735_689_600_000, 22
_REACH_MS = 3_600_000  # what came later than this was not sealed any more
_SEAL = """
    SELECT number, first_id, last_id, sealed_at_ms, previous, digest,
           transaction_ids, digests
      FROM journal_seal"""
_UP = f"{_SEAL} WHERE number > :after ORDER BY number LIMIT :most"
_DOWN = f"{_SEAL} WHERE last_id < :after ORDER BY last_id DESC LIMIT :most"
_TRANSACTIONS = """
    SELECT id, kind, idempotency_key, input_hash, reference, memo, reverses_id,
           occurred_at_ms, posted_at_ms
      FROM ledger_transaction
     WHERE id <= :last ORDER BY id DESC LIMIT :most"""
_TRANSFERS = """
    SELECT transfer.ledger_transaction_id, transfer.id, transfer.position,
           transfer.debit_account_id, debit.code AS debit_code,
           debit.asset AS debit_asset, debit.customer_id AS debit_customer_id,
           transfer.credit_account_id, credit.code AS credit_code,
           credit.asset AS credit_asset, credit.customer_id AS credit_customer_id,
           transfer.amount, transfer.debit_balance_after, transfer.debit_version,
           transfer.credit_balance_after, transfer.credit_version,
           transfer.lot_id, transfer.lots
      FROM transfer
      LEFT JOIN ledger_account AS debit ON debit.id = transfer.debit_account_id
      LEFT JOIN ledger_account AS credit ON credit.id = transfer.credit_account_id
     WHERE transfer.ledger_transaction_id >= :first
       AND transfer.ledger_transaction_id <= :last
     ORDER BY transfer.ledger_transaction_id, transfer.position"""


class _Flaw(Exception):
    """What is wrong, in words."""


def first_flaw(connection: Connection) -> str | None:
    """What is wrong with the seals, or with what they seal; None when nothing is."""
    counted = connection.execute(sa.text("SELECT seals FROM installation")).scalar()
    try:
        last_id = _walk_up(connection, counted or 0)
        if last_id is not None:
            _walk_down(connection, _oldest_due(last_id))
    except _Flaw as flaw:
        return str(flaw)
    return None


def _oldest_due(last_id: int) -> int:
    """Younger transactions may not be sealed yet."""
    sealed_ms = (last_id >> _ID_SHIFT) + _EPOCH_MS
    newest_ms = min(sealed_ms, time.time_ns() // 1_000_000)
    return (newest_ms - _REACH_MS - _EPOCH_MS) << _ID_SHIFT


def _walk_up(connection: Connection, counted: int) -> int | None:
    """The newest transaction of the last seal; None when there is no seal."""
    number, before, last_id = 0, bytes(32), None
    for row in _seals(connection, _UP, "number", 0):
        number += 1
        if row.number != number:
            raise _Flaw(f"seal {number} was removed")
        _require_itself(row)
        if row.previous != before:
            raise _Flaw(
                f"seal {number} does not continue seal {number - 1}: one of them was"
                " replaced"
            )
        before, last_id = row.digest, row.last_id
    if number != counted:
        was = "removed" if number < counted else "added"
        of = min(number, counted) + 1
        raise _Flaw(f"seal {of} was {was}: {counted} were made")
    return last_id


def _seals(
    connection: Connection, sql: str, column: str, after: int
) -> Iterator[Row[Any]]:
    while True:
        page = {"after": after, "most": _SEALS_AT_ONCE}
        rows = connection.execute(sa.text(sql), page).all()
        yield from rows
        if len(rows) < _SEALS_AT_ONCE:
            return
        after = getattr(rows[-1], column)


def _require_itself(row: Row[Any]) -> None:
    told = (
        row.number,
        row.previous,
        row.sealed_at_ms,
        row.transaction_ids,
        row.digests,
    )
    if sha256(b"tallystick seal 1" + _encoded(told)).digest() == row.digest:
        try:
            ids = list(_sealed(row))
        except (ValueError, TypeError, struct.error):
            ids = []
        if ids and [ids[0], ids[-1]] == [row.first_id, row.last_id]:
            return
    raise _Flaw(f"seal {row.number} was changed")


def _sealed(row: Row[Any]) -> dict[int, bytes]:
    """The digests of a seal's transactions by id."""
    ids = struct.unpack(f">{len(row.transaction_ids) // 8}q", row.transaction_ids)
    starts = range(0, len(row.digests), 16)
    digests = [row.digests[one : one + 16] for one in starts]
    return dict(zip(ids, digests, strict=True))


def _walk_down(connection: Connection, oldest_due: int) -> None:
    expected: dict[int, tuple[bytes, int]] = {}
    seals = _seals(connection, _DOWN, "last_id", _HIGHEST)
    waiting, last = next(seals, None), _HIGHEST
    while found := _digests(connection, last):
        lowest = min(found)
        while waiting is not None and waiting.last_id >= lowest:
            _expect(expected, waiting)
            waiting = next(seals, None)
        for one, digest in found.items():
            sealed = expected.pop(one, None)
            if sealed is None and one < oldest_due:
                raise _Flaw(
                    f"the transaction of id {one} was slipped in: no seal has it"
                )
            if sealed is not None and sealed[0] != digest:
                raise _Flaw(
                    f"the transaction of id {one} was changed after seal {sealed[1]}"
                )
        _require_met(expected, lowest)
        last = lowest - 1
    while waiting is not None:
        _expect(expected, waiting)
        _require_met(expected, -_HIGHEST)
        waiting = next(seals, None)
    _require_met(expected, -_HIGHEST)


def _expect(expected: dict[int, tuple[bytes, int]], row: Row[Any]) -> None:
    for one, digest in _sealed(row).items():
        expected[one] = digest, row.number


def _require_met(expected: dict[int, tuple[bytes, int]], lowest: int) -> None:
    """Nothing from ``lowest`` on was sealed and is not there."""
    for one, (_, number) in expected.items():
        if one >= lowest:
            raise _Flaw(f"the transaction of id {one} was removed after seal {number}")


def _digests(connection: Connection, last: int) -> dict[int, bytes]:
    """Of the newest transactions up to ``last``, the newest first."""
    page = {"last": last, "most": _AT_ONCE}
    found = connection.execute(sa.text(_TRANSACTIONS), page).all()
    if not found:
        return {}
    ends = {"first": found[-1].id, "last": found[0].id}
    transfers: dict[int, list[Sequence[Any]]] = defaultdict(list)
    for row in connection.execute(sa.text(_TRANSFERS), ends):
        transfers[row[0]].append(row[1:])
    return {row.id: _digest(row, transfers[row.id]) for row in found}


def _digest(transaction: Row[Any], transfers: Sequence[Sequence[Any]]) -> bytes:
    values: list[Any] = [*transaction, len(transfers)]
    for one in transfers:
        values += one
    return sha256(b"tallystick journal 1" + _encoded(values)).digest()[:16]


def _encoded(values: Iterable[Any]) -> bytes:
    return b"".join([_value(one) for one in values])


def _value(value: Any) -> bytes:
    if value is None:
        return b"-"
    if type(value) is int:
        return b"i%d;" % value
    if type(value) is bytes:
        return b"b%d:%b" % (len(value), value)
    text = value if type(value) is str else repr(value)
    encoded = text.encode("utf-8", "surrogatepass")
    kind = b"s" if text is value else b"?s"
    return b"%b%d:%b" % (kind, len(encoded), encoded)
