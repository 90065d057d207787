"""The baseline on SQLite: everything that a charge writes, and a commit for each.

Written by hand, with nothing around it: what a program does that serves one by one.
"""

import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from bench.books import FEATURE, usage_of
from tallystick.ledger import chart

_DAY_MS = 24 * 3600 * 1000
_AS_OURS = ("journal_mode = WAL", "synchronous = FULL", "wal_autocheckpoint = 8000")
_ANSWER = """
    INSERT INTO stored_answer (key, fingerprint, state, expires_at_ms, owner)
    VALUES (?, ?, 'charged', ?, ?)"""
_SPEND = """
    UPDATE account_balance
       SET balance = balance - 1, burning_left = burning_left - 1,
           version = version + 1, revision = revision + 1
     WHERE customer_id = ? AND burning_left >= 1
       AND (next_change_ms IS NULL OR next_change_ms > ?)
    RETURNING ledger_account_id, balance, version, burning_lot_id"""
_TRANSACTION = """
    INSERT INTO ledger_transaction (id, kind, reference, memo, occurred_at_ms,
                                    posted_at_ms) VALUES (?, 'charge', '', ?, ?, ?)"""
_TRANSFER = """
    INSERT INTO transfer (ledger_transaction_id, position, debit_account_id,
                          credit_account_id, amount, debit_balance_after,
                          debit_version, lot_id) VALUES (?, 0, ?, ?, 1, ?, ?, ?)"""
_USE = """
    INSERT INTO usage_event (id, customer_id, feature, quantity, credits,
                             catalog_version, occurred_at_ms)
    VALUES (?, ?, ?, ?, 1, ?, ?)"""


def charges_per_second(
    path: Path, customers: Sequence[int], *, seconds: float
) -> float:
    """As fast as one connection can, of any customer; nobody else has the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for one in _AS_OURS:
            db.execute(f"PRAGMA {one}")
        ((last,),) = db.execute("SELECT MAX(id) FROM ledger_transaction")
        code = chart.feature_revenue(FEATURE).code
        found = db.execute("SELECT id FROM ledger_account WHERE code = ?", (code,))
        ((revenue_id,),) = found.fetchall()
        began, done = time.perf_counter(), 0
        while time.perf_counter() < began + seconds:
            done += 1
            _charge(db, secrets.choice(customers), revenue_id, last + done)
        return done / (time.perf_counter() - began)


def _charge(db: sqlite3.Connection, customer: int, revenue_id: int, id_: int) -> None:
    now, usage = time.time_ns() // 1_000_000, usage_of(customer)
    db.execute("BEGIN IMMEDIATE")
    key = secrets.token_bytes(16)
    db.execute(_ANSWER, (key, bytes(16), now + _DAY_MS, id_))
    ((account, left, version, lot),) = db.execute(_SPEND, (customer, now)).fetchall()
    db.execute(_TRANSACTION, (id_, usage.memo, now, now))
    db.execute(_TRANSFER, (id_, account, revenue_id, left, version, lot))
    used = (id_, customer, FEATURE, usage.quantity, usage.catalog_version, now)
    db.execute(_USE, used)
    db.execute("COMMIT")
