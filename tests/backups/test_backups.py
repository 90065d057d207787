"""A backup is the whole of the books or nothing, and goes into either database."""

import asyncio
import gzip
import hashlib
import json
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tallystick.backups.archive import Header
from tallystick.backups.errors import (
    DatabaseNotEmpty,
    NewerBackup,
    UnreadableBackup,
)
from tallystick.backups.restore import restore_backup
from tallystick.backups.take import TABLES, take_backup
from tallystick.claims.claim import ClaimedMoney, Use, claim
from tallystick.claims.models import ClaimState
from tallystick.customers.wallets import ensure_customer_of_wallet
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, WriteSession, open_database, query
from tallystick.kernel.money import MicroCredits
from tallystick.kernel.new_file import FileExists
from tallystick.ledger.sealed_audit import audit_noted
from tallystick.ledger.sealing import seal_due
from tallystick.migrations import upgrade
from tests.credits.calls import capture, hold
from tests.ledger.bookings import audit, balance, book, buy, charge, give
from tests.ledger.sealed import head_of
from tests.postgres import PostgresServer

MONEY = ClaimedMoney(84532, bytes(20), b"\2" * 20, b"\3" * 32, 2**40, 0, 9, bytes(16))


@pytest.fixture
async def books(db: Database, clock: OffsetClock) -> Database:
    """Something of every kind of column: bytes, large numbers, NULL, text, flags."""
    await buy(db, 5_000_000, 50_000_000)
    await give(db, 1_000_000)
    await book(db, charge(250_000, "a"))
    await capture(db, await hold(db, 1_000_000), 500_000)
    await hold(db, 700_000)
    clock.advance(60)
    assert await seal_due(db) == 1

    async def claimed(session: WriteSession) -> None:
        owner = await ensure_customer_of_wallet(session, MONEY.payer)
        use = Use(owner, 'words, "quoted"\nand 中文', MicroCredits(1), 0)
        await claim(session, MONEY, use, state=ClaimState.WAIVED)

    await db.write(claimed)
    return db


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new database of each kind, without any table."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path / 'restored.sqlite3'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = asyncio.run(server.create_database(template="template0"))
    yield server.url(name)
    asyncio.run(server.drop_database(name))


@pytest.fixture
async def empty(empty_url: str, clock: OffsetClock) -> AsyncIterator[Database]:
    db = open_database(empty_url, clock)
    yield db
    await db.close()


async def take(db: Database, file: Path) -> Header:
    return await take_backup(db, file, lambda _: None, lambda *_: None)


async def restore(db: Database, file: Path) -> Header:
    return await restore_backup(db, file, lambda _: None, lambda *_: None)


async def contents(db: Database) -> dict[str, list[Any]]:
    """Every row of every table, whatever the database calls its types."""
    async with db.reader.connect() as connection:
        return {
            table.name: sorted(
                map(tuple, (await connection.execute(table.select())).all()), key=repr
            )
            for table in TABLES
        }


async def test_what_is_restored_is_what_was_there_on_either_database(
    books: Database, empty: Database, tmp_path: Path
) -> None:
    file = tmp_path / "books.backup"
    before = await contents(books)
    header = await take(books, file)
    assert header.rows["transfer"] == 5
    assert (await restore(empty, file)).rows == header.rows
    assert await contents(empty) == before
    assert await audit(empty) == []
    await empty.start()
    assert await balance(empty) == await balance(books)


async def test_the_restored_books_go_on(
    books: Database, empty: Database, clock: OffsetClock, tmp_path: Path
) -> None:
    """Keys are known, guards stand, new rows get ids, seals continue the chain."""
    await take(books, tmp_path / "b")
    await restore(empty, tmp_path / "b")
    await empty.start()
    assert await head_of(empty) == await head_of(books)
    replayed = await book(empty, charge(250_000, "a"))
    assert replayed.replayed
    assert not (await book(empty, charge(250_000, "b"))).replayed
    clock.advance(60)
    assert await seal_due(empty) == 1
    assert await audit(empty) == []
    async with empty.read() as session:
        assert await audit_noted(session, [await head_of(books)]) == []
    with pytest.raises(Exception, match="append-only"):
        await empty.write(lambda one: query(one, "DELETE FROM transfer"))


async def test_a_backup_of_a_running_server_is_of_one_moment(
    books: Database, empty: Database, tmp_path: Path
) -> None:
    """What is written while it is taken is wholly in it or not at all."""
    file = tmp_path / "b"
    taking = asyncio.create_task(take(books, file))
    late = 0
    while not taking.done():
        late += 1
        await book(books, charge(1_000, f"late {late}"))
    await taking
    await restore(empty, file)
    assert await audit(empty) == []
    kept, left = (await balance(empty)).posted, (await balance(books)).posted
    assert 0 < kept - left <= late * 1_000


def lines_of(file: Path) -> list[bytes]:
    return gzip.decompress(file.read_bytes()).splitlines(keepends=True)


def rewrite(file: Path, lines: list[bytes]) -> None:
    file.write_bytes(gzip.compress(b"".join(lines)))


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-20])


def without_its_end(file: Path) -> None:
    rewrite(file, lines_of(file)[:-1])


def without_a_row(file: Path) -> None:
    lines = lines_of(file)
    row = next(n for n, line in enumerate(lines) if line.startswith(b"["))
    rewrite(file, lines[:row] + lines[row + 1 :])


def with_another_amount(file: Path) -> None:
    lines = lines_of(file)
    rewrite(file, [line.replace(b"250000", b"250001") for line in lines])


def with_a_foreign_table(file: Path) -> None:
    lines = lines_of(file)
    rewrite(file, [line.replace(b'"hold"', b'"gold"') for line in lines])


def of_nothing(file: Path) -> None:
    file.write_bytes(b"")


def of_something_else(file: Path) -> None:
    file.write_bytes(b"PK\3\4 no backup")


def gone(file: Path) -> None:
    file.unlink()


DAMAGE = [
    cut_off,
    without_its_end,
    without_a_row,
    with_another_amount,
    with_a_foreign_table,
    of_nothing,
    of_something_else,
    gone,
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda one: one.__name__)
async def test_a_damaged_backup_is_refused_as_a_whole(
    books: Database,
    empty: Database,
    tmp_path: Path,
    damage: Callable[[Path], None],
) -> None:
    file = tmp_path / "b"
    await take(books, file)
    damage(file)
    with pytest.raises(UnreadableBackup):
        await restore(empty, file)
    # Whether or not it got as far as making a schema, there is nothing in it.
    await upgrade(empty)
    async with empty.read() as session:
        assert await query(session, "SELECT 1 FROM ledger_account") == []


async def test_a_backup_of_a_newer_version_is_refused(
    books: Database, empty: Database, tmp_path: Path
) -> None:
    file = tmp_path / "b"
    header = await take(books, file)
    lines = lines_of(file)
    lines[0] = lines[0].replace(header.revision.encode(), b"9999")
    end = json.loads(lines[-1])
    end["end"]["sha256"] = hashlib.sha256(b"".join(lines[:-1])).hexdigest()
    rewrite(file, [*lines[:-1], json.dumps(end).encode() + b"\n"])
    with pytest.raises(NewerBackup):
        await restore(empty, file)


async def test_books_are_never_restored_over_others(
    books: Database, tmp_path: Path
) -> None:
    await take(books, tmp_path / "b")
    before = await contents(books)
    with pytest.raises(DatabaseNotEmpty):
        await restore(books, tmp_path / "b")
    assert await contents(books) == before


def names_in(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir() if one.name.startswith("b")}


async def test_a_backup_overwrites_no_file_and_is_its_owners_alone(
    books: Database, tmp_path: Path
) -> None:
    file = tmp_path / "b"
    await take(books, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    first = file.read_bytes()
    with pytest.raises(FileExists):
        await take(books, file)
    assert file.read_bytes() == first
    assert names_in(tmp_path) == {"b"}


async def test_a_backup_that_failed_leaves_no_file(
    books: Database, tmp_path: Path
) -> None:
    def fail(_table: str, _rows: int) -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        await take_backup(books, tmp_path / "b", lambda _: None, fail)
    assert names_in(tmp_path) == set()
