"""Plain charges and holds on SQLite: read, decide, write, while nobody else can write.

Every statement is for many rows at once: while SQLite works through one, the thread
that serves requests goes on, but from row to row the two would fight for the lock of
the interpreter.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import Any, TypeVar

from tallystick.kernel.lane import SqliteLane
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.plain_rows import Beside, Plain, PlainCharge, PlainHold, Row

_ACCOUNTS = """
    SELECT customer_id, ledger_account_id, balance, version, burning_lot_id,
           burning_left
      FROM account_balance
     WHERE customer_id IN ({list})
       AND (next_change_ms IS NULL OR next_change_ms > ?) AND burning_since_ms <= ?"""
_HOUSE = "SELECT code, id FROM ledger_account WHERE code IN ({list})"
_TAKE = """
    UPDATE account_balance
       SET balance = balance - taken.column2, held = held + taken.column3,
           burning_left = burning_left - taken.column2 - taken.column3,
           version = version + taken.column4, revision = revision + 1
      FROM (VALUES {list}) AS taken
     WHERE ledger_account_id = taken.column1
       AND burning_left >= taken.column2 + taken.column3"""
_TRANSACTION = (
    "ledger_transaction (id, kind, reference, memo, occurred_at_ms, posted_at_ms)"
)
_TRANSFER = (
    "transfer (ledger_transaction_id, position, debit_account_id,"
    " credit_account_id, amount, debit_balance_after, debit_version, lot_id)"
)
_CHARGE = TransactionKind.CHARGE.value
_MOST_ROWS = 256
T = TypeVar("T")


class _Account:
    """A customer's account while a group takes from it."""

    __slots__ = ("balance", "held", "id", "left", "lines", "lot_id", "spent", "version")

    def __init__(self, row: tuple[int, ...]) -> None:
        _, self.id, self.balance, self.version, self.lot_id, self.left = row
        self.spent = self.held = self.lines = 0

    def take(self, one: Plain) -> bool:
        if self.left < one.amount:
            return False
        self.left -= one.amount
        if isinstance(one, PlainHold):
            self.held += one.amount
        else:
            self.balance -= one.amount
            self.spent += one.amount
            self.version += 1
            self.lines += 1
        return True


async def write_on_sqlite(
    lane: SqliteLane, items: Sequence[Plain], beside: Sequence[Beside], now: int
) -> list[int | None]:
    """As ``plain.write_plain``; ``now`` in milliseconds."""
    return await lane.write(partial(_write, items, beside, now))


def _write(
    items: Sequence[Plain], beside: Sequence[Beside], now: int, db: sqlite3.Connection
) -> list[int | None]:
    codes = {one.revenue_code for one in items if isinstance(one, PlainCharge)}
    house = dict(_select(db, _HOUSE, codes))
    found = _select(db, _ACCOUNTS, {one.customer_id for one in items}, now, now)
    accounts = {row[0]: _Account(row) for row in found}
    left: list[int | None] = [None] * len(items)
    lots = [0] * len(items)
    transactions: list[object] = []
    transfers: list[object] = []
    for index in _fresh(db, beside, len(items)):
        one = items[index]
        account = accounts.get(one.customer_id)
        revenue = house.get(one.revenue_code) if isinstance(one, PlainCharge) else 0
        if account is None or revenue is None or not account.take(one):
            continue
        left[index], lots[index] = account.balance, account.lot_id
        if isinstance(one, PlainCharge):
            transactions += _transaction(one, now)
            transfers += _transfer(one, account, revenue)
    _take(db, [one for one in accounts.values() if one.spent or one.held])
    _insert(db, _TRANSACTION, 6, transactions)
    _insert(db, _TRANSFER, 8, transfers)
    _insert_beside(db, beside, left, lots)
    return left


def _fresh(
    db: sqlite3.Connection, beside: Sequence[Beside], items: int
) -> Iterable[int]:
    """Those beside which nothing stands yet that may stand there but once."""
    fresh = dict.fromkeys(range(items))
    for one in beside:
        asked = one.once_values()
        known = f"SELECT {one.table.once} FROM {one.table.name}"  # noqa: S608  # our own names
        query = f"{known} WHERE {one.table.once} IN ({{list}})"
        seen = {row[0] for row in _select(db, query, set(asked.values()))}
        for index, value in asked.items():
            if value in seen:
                fresh.pop(index, None)
    return fresh


def _transaction(one: PlainCharge, now: int) -> Row:
    return (one.id, _CHARGE, "", one.memo, now, now)


def _transfer(one: PlainCharge, account: _Account, revenue: int) -> Row:
    return (
        one.id,
        0,
        account.id,
        revenue,
        one.amount,
        account.balance,
        account.version,
        account.lot_id,
    )


def _take(db: sqlite3.Connection, accounts: Sequence[_Account]) -> None:
    if not accounts:
        return
    rows = _padded([(one.id, one.spent, one.held, one.lines) for one in accounts])
    values = [value for row in rows for value in row]
    done = db.execute(_TAKE.format(list=_places(len(rows), 4)), values)
    if done.rowcount != len(accounts):
        raise AssertionError("an account changed under its lock")


def _insert_beside(
    db: sqlite3.Connection,
    beside: Sequence[Beside],
    left: Sequence[int | None],
    lots: Sequence[int],
) -> None:
    for one in beside:
        values: list[object] = []
        for row, done, lot_id in zip(one.rows, left, lots, strict=True):
            if done is not None and row is not None:
                values += row if one.table.lot is None else (*row, lot_id)
        into = f"{one.table.name} ({one.table.names})"
        _insert(db, into, one.table.width, values)


def _select(
    db: sqlite3.Connection, query: str, wanted: set[Any], *more: object
) -> list[Any]:
    values = _padded(list(wanted))
    if not values:
        return []
    sql = query.format(list=", ".join("?" * len(values)))
    return db.execute(sql, (*values, *more)).fetchall()


def _insert(
    db: sqlite3.Connection, into: str, columns: int, values: Sequence[object]
) -> None:
    """Insert rows, given as one flat list of their values."""
    rows, start = len(values) // columns, 0
    while rows:
        some = min(1 << (rows.bit_length() - 1), _MOST_ROWS)
        end = start + some * columns
        db.execute(_insertion(into, columns, some), values[start:end])
        rows, start = rows - some, end


def _padded(values: list[T]) -> list[T]:
    """With the last repeated until a power of two, so that few statements are kept."""
    missing = (1 << (len(values) - 1).bit_length()) - len(values)
    return values + values[-1:] * missing


@cache
def _insertion(into: str, columns: int, rows: int) -> str:
    return f"INSERT INTO {into} VALUES {_places(rows, columns)}"  # noqa: S608  # our own names


@cache
def _places(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)
