"""The least that a charge could be on SQLite, and a durable commit for each."""

import secrets
import sqlite3
import time
from contextlib import closing
from pathlib import Path

_SCHEMA = """
    CREATE TABLE balance (id INTEGER PRIMARY KEY, balance INTEGER, held INTEGER);
    CREATE TABLE key (key BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE transfer (id INTEGER PRIMARY KEY, account INTEGER, amount INTEGER,
                           balance_after INTEGER);
"""


def charges_per_second(path: Path, *, customers: int, seconds: float) -> float:
    """As fast as one connection can, with the journal and fsync that the books have."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
        rows = ((n, 1 << 50) for n in range(customers))
        db.executemany("INSERT INTO balance VALUES (?, ?, 0)", rows)
        began, done = time.perf_counter(), 0
        while time.perf_counter() < began + seconds:
            _charge(db, secrets.randbelow(customers))
            done += 1
        return done / (time.perf_counter() - began)


def _charge(db: sqlite3.Connection, account: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO key VALUES (?)", (secrets.token_bytes(16),))
    (after,) = db.execute(
        "UPDATE balance SET balance = balance - 1"
        " WHERE id = ? AND balance - held >= 1 RETURNING balance",
        (account,),
    ).fetchone()
    db.execute(
        "INSERT INTO transfer (account, amount, balance_after) VALUES (?, 1, ?)",
        (account, after),
    )
    db.execute("COMMIT")
