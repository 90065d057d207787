"""Plain charges on SQLite: read, decide, write, while nobody else can write.

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
from tallystick.ledger.plain_rows import Beside, PlainCharge, Row

_ACCOUNTS = """
    SELECT customer_id, ledger_account_id, balance, version, burning_lot_id,
           burning_left
      FROM ledger_account
      JOIN account_balance ON ledger_account_id = ledger_account.id
     WHERE customer_id IN ({list})
       AND (next_change_ms IS NULL OR next_change_ms > ?)"""
_HOUSE = "SELECT code, id FROM ledger_account WHERE code IN ({list})"
_SPEND = """
    UPDATE account_balance
       SET balance = balance - spent.column2, burning_left = burning_left - spent.column2,
           version = version + spent.column3, revision = revision + 1
      FROM (VALUES {list}) AS spent
     WHERE ledger_account_id = spent.column1 AND burning_left >= spent.column2"""
_TRANSACTION = (
    "ledger_transaction (id, kind, reference, memo, occurred_at_ms, posted_at_ms)"
)
_TRANSFER = (
    "transfer (id, ledger_transaction_id, position, debit_account_id,"
    " credit_account_id, amount, debit_balance_after, debit_version, lot_id)"
)


_CHARGE = TransactionKind.CHARGE.value
_MOST_ROWS = 256
T = TypeVar("T")


class _Account:
    """A customer's account while a group spends from it."""

    __slots__ = ("balance", "id", "left", "lines", "lot_id", "spent", "version")

    def __init__(self, row: tuple[int, ...]) -> None:
        _, self.id, self.balance, self.version, self.lot_id, self.left = row
        self.spent = self.lines = 0

    def spend(self, amount: int) -> bool:
        if self.left < amount:
            return False
        self.left -= amount
        self.balance -= amount
        self.spent += amount
        self.version += 1
        self.lines += 1
        return True


async def book_on_sqlite(
    lane: SqliteLane,
    charges: Sequence[PlainCharge],
    beside: Sequence[Beside],
    now: int,
) -> list[int | None]:
    """As ``plain.book_plain``; ``now`` in milliseconds."""
    return await lane.write(partial(_book, charges, beside, now))


def _book(
    charges: Sequence[PlainCharge],
    beside: Sequence[Beside],
    now: int,
    db: sqlite3.Connection,
) -> list[int | None]:
    booked: list[int | None] = [None] * len(charges)
    house = dict(_select(db, _HOUSE, {one.revenue_code for one in charges}))
    found = _select(db, _ACCOUNTS, {one.customer_id for one in charges}, now)
    accounts = {row[0]: _Account(row) for row in found}
    transactions: list[object] = []
    transfers: list[object] = []
    for index in _fresh(db, beside, len(charges)):
        one = charges[index]
        account, revenue = accounts.get(one.customer_id), house.get(one.revenue_code)
        if account is None or revenue is None or not account.spend(one.amount):
            continue
        booked[index] = account.balance
        transactions += _transaction(one, now)
        transfers += _transfer(one, account, revenue)
    if not transactions:
        return booked
    _spend(db, [one for one in accounts.values() if one.lines])
    _insert(db, _TRANSACTION, 6, transactions)
    _insert(db, _TRANSFER, 9, transfers)
    _insert_beside(db, beside, booked)
    return booked


def _fresh(
    db: sqlite3.Connection, beside: Sequence[Beside], charges: int
) -> Iterable[int]:
    """The charges beside which nothing stands yet that may stand there but once."""
    fresh = dict.fromkeys(range(charges))
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
    return (
        one.transaction_id,
        _CHARGE,
        one.reference,
        one.memo,
        now,
        now,
    )


def _transfer(one: PlainCharge, account: _Account, revenue: int) -> Row:
    return (
        one.transfer_id,
        one.transaction_id,
        0,
        account.id,
        revenue,
        one.amount,
        account.balance,
        account.version,
        account.lot_id,
    )


def _spend(db: sqlite3.Connection, accounts: Sequence[_Account]) -> None:
    rows = _padded([(one.id, one.spent, one.lines) for one in accounts])
    values = [value for row in rows for value in row]
    done = db.execute(_SPEND.format(list=_places(len(rows), 3)), values)
    if done.rowcount != len(accounts):
        raise AssertionError("an account changed under its lock")


def _insert_beside(
    db: sqlite3.Connection, beside: Sequence[Beside], booked: Sequence[int | None]
) -> None:
    for one in beside:
        values: list[object] = []
        for row, done in zip(one.rows, booked, strict=True):
            if done is not None and row is not None:
                values += row
        into = f"{one.table.name} ({one.table.names})"
        _insert(db, into, len(one.table.columns), values)


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
    missing = (1 << (len(values) - 1).bit_length()) - len(values) if values else 0
    return values + values[-1:] * missing


@cache
def _insertion(into: str, columns: int, rows: int) -> str:
    return f"INSERT INTO {into} VALUES {_places(rows, columns)}"  # noqa: S608  # our own names


@cache
def _places(rows: int, columns: int) -> str:
    return ", ".join([f"({', '.join('?' * columns)})"] * rows)
