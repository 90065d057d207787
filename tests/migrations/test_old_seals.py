"""Books that were sealed before 0009 are upgraded only as they were sealed."""

import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary, MetaData, inspect, text
from tests.credits.calls import capture, hold
from tests.ledger.bookings import audit, book, buy, charge, give, refund
from tests.ledger.tampering import tamper, tampered
from tests.processes import run

from tallystick.backups.archive import ArchiveWriter, Header, TableHead
from tallystick.backups.restore import restore_backup
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database
from tallystick.ledger.links import BEFORE_THE_FIRST, Head, Link, transaction_digest
from tallystick.ledger.sealing import seal_due
from tallystick.migrations import downgrade, is_current, old_seals, upgrade
from tallystick.migrations.errors import BrokenSeals

_HOUR = 3600
_TRANSFERS = """
    SELECT transfer.id, position, debit_account_id, debit.code AS debit_code,
           debit.asset AS debit_asset, debit.customer_id AS debit_customer,
           credit_account_id, credit.code AS credit_code, credit.asset AS credit_asset,
           credit.customer_id AS credit_customer, amount, debit_balance_after,
           debit_version, credit_balance_after, credit_version, lot_id, lots
      FROM transfer
      JOIN ledger_account AS debit ON debit.id = debit_account_id
      JOIN ledger_account AS credit ON credit.id = credit_account_id
     WHERE ledger_transaction_id = :id ORDER BY position"""


async def rows_of(db: Database, sql: str, **values: object) -> list[Any]:
    async with db.reader.connect() as connection:
        return list((await connection.execute(text(sql), values)).all())


async def seal_as_then(db: Database, *groups: list[int]) -> None:
    """Seals as servers of revision 0008 made them, for these transactions."""
    head = BEFORE_THE_FIRST
    for ids in groups:
        digests = {}
        for one in ids:
            found = await rows_of(
                db, "SELECT * FROM ledger_transaction WHERE id = :id", id=one
            )
            transfers = await rows_of(db, _TRANSFERS, id=one)
            digests[one] = transaction_digest(found[0], transfers, format_=1)
        link = Link(
            head.number + 1,
            head.digest,
            1_763_000_000_000 + head.number,
            struct.pack(f">{len(ids)}q", *sorted(ids)),
            b"".join(digests[one] for one in sorted(ids)),
            1,
        )
        head = Head(link.number, link.digest())
        async with db.writer.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO journal_seal (number, first_id, last_id, sealed_at_ms,"
                    " previous, digest, transaction_ids, digests) VALUES (:number,"
                    " :first, :last, :at, :previous, :digest, :ids, :digests)"
                ),
                {
                    "number": link.number,
                    "first": min(ids),
                    "last": max(ids),
                    "at": link.sealed_at_ms,
                    "previous": link.previous,
                    "digest": head.digest,
                    "ids": link.transaction_ids,
                    "digests": link.digests,
                },
            )
            await connection.execute(
                text("UPDATE installation SET seals = :number"), {"number": link.number}
            )


async def ids_of(db: Database) -> list[int]:
    rows = await rows_of(db, "SELECT id FROM ledger_transaction ORDER BY id")
    return [row.id for row in rows]


async def contents(db: Database) -> dict[str, list[str]]:
    """Every row of every table, the revision among them."""
    async with db.reader.connect() as connection:
        names = await connection.run_sync(lambda one: inspect(one).get_table_names())
        found = {}
        for name in names:
            rows = await connection.execute(text(f"SELECT * FROM {name}"))
            found[name] = sorted(repr(tuple(row)) for row in rows)
    return found


@pytest.fixture
async def old(database_url: str, clock: OffsetClock) -> AsyncIterator[Database]:
    """Books of revision 0008 in three seals, the second of which has what came late.

    The last transaction has no seal yet.
    """
    db = open_database(database_url, clock)
    await db.start()
    clock.advance(-9 * _HOUR)
    for number in range(3):
        await buy(db, 1_000_000, 10_000_000)
        await give(db, 5)
        charged = await book(db, charge(8_000_000, f"a call {number}"))
        await capture(db, await hold(db, 7))
        await refund(db, charged.ledger_transaction_id, 3_000_000)
        clock.advance(3 * _HOUR)
    await give(db, 5)
    await db.close()
    db = open_database(database_url, clock)
    await downgrade(db, "0008")
    ids = await ids_of(db)
    assert len(ids) == 16
    await seal_as_then(db, [*ids[:3], *ids[4:7]], [ids[3], *ids[7:9]], ids[9:15])
    yield db
    await db.close()


async def test_books_as_they_were_sealed_are_upgraded(
    old: Database, clock: OffsetClock
) -> None:
    await upgrade(old)
    assert await is_current(old)
    assert await rows_of(old, "SELECT number FROM journal_seal") == []
    await old.start()
    clock.advance(60)
    assert await seal_due(old) == 1
    assert await audit(old) == []


_OF_FIRST = "= (SELECT MIN(id) FROM ledger_transaction)"
_CHARGE = "(SELECT MIN(id) FROM ledger_transaction WHERE kind = 'charge')"
_COLUMNS = "id, kind, reference, memo, occurred_at_ms, posted_at_ms"
_SLIPPED_IN = (
    "SELECT id + 1, kind, reference, memo, 1, 1 FROM ledger_transaction"
    f" WHERE id {_OF_FIRST}"
)
_NOTHING = ("SELECT 1", "None")
_TAMPERING = {
    "a memo": (
        f"UPDATE ledger_transaction SET memo = 'x' WHERE id {_OF_FIRST}",
        "the transaction of id {first} was changed after seal 1",
    ),
    "an amount": (
        f"UPDATE transfer SET amount = amount + 1 WHERE ledger_transaction_id = {_CHARGE}",
        "the transaction of id {charge} was changed after seal 1",
    ),
    "the lots of a line": (
        f"UPDATE transfer SET lots = '[[1,-1]]' WHERE ledger_transaction_id = {_CHARGE}",
        "the transaction of id {charge} was changed after seal 1",
    ),
    "an account's owner": (
        "UPDATE ledger_account SET customer_id = 99 WHERE customer_id IS NOT NULL",
        "was changed after seal 3",
    ),
    "a transaction that is gone": (
        f"DELETE FROM ledger_transaction WHERE id {_OF_FIRST}",
        "the transaction of id {first} was removed after seal 1",
    ),
    "a transaction that came late and is gone": (
        "DELETE FROM ledger_transaction WHERE id = {late}",
        "the transaction of id {late} was removed after seal 2",
    ),
    "a transaction that was slipped in": (
        f"INSERT INTO ledger_transaction ({_COLUMNS}) {_SLIPPED_IN}",
        "the transaction of id {slipped} was slipped in: no seal has it",
    ),
    "a seal": (
        "UPDATE journal_seal SET sealed_at_ms = 1 WHERE number = 2",
        "seal 2 was changed",
    ),
    "what a seal lists": (
        "UPDATE journal_seal SET last_id = last_id + 1 WHERE number = 2",
        "seal 2 was changed",
    ),
    "a seal that is gone": ("DELETE FROM journal_seal WHERE number = 1", "seal 1 was"),
    "the last seal": (
        "DELETE FROM journal_seal WHERE number = 3",
        "seal 3 was removed",
    ),
    "all seals": ("DELETE FROM journal_seal", "seal 1 was removed: 3 were made"),
    "how many were made": ("UPDATE installation SET seals = 2", "seal 3 was added"),
}


@pytest.mark.parametrize("at_once", [1, 3, 1_000])
async def test_whatever_is_not_as_it_was_sealed_is_found_and_named(
    old: Database, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(old_seals, "_AT_ONCE", at_once)
    monkeypatch.setattr(old_seals, "_SEALS_AT_ONCE", at_once)
    ids = await ids_of(old)
    (charged,) = await rows_of(old, f"SELECT {_CHARGE} AS id")
    named = {"first": ids[0], "late": ids[3], "slipped": ids[0] + 1}
    named["charge"] = charged.id
    wrong = {}
    for tampering, (statement, words) in {"nothing": _NOTHING, **_TAMPERING}.items():
        async with tampered(old, statement.format(**named)) as session:
            connection = await session.connection()
            flaw = await connection.run_sync(old_seals.first_flaw)
        if words.format(**named) not in str(flaw):
            wrong[tampering] = flaw
    assert wrong == {}


@pytest.mark.parametrize("tampering", ["a memo", "a seal that is gone"])
async def test_books_that_are_not_as_they_were_sealed_are_left_as_they_are(
    old: Database, clock: OffsetClock, tampering: str
) -> None:
    statement, _ = _TAMPERING[tampering]
    await tamper(old, statement)
    before = await contents(old)
    with pytest.raises(BrokenSeals) as refused:
        await upgrade(old)
    assert "--accept-broken-seals" in str(refused.value.next_step)
    assert await contents(old) == before
    await upgrade(old, accept_broken_seals=True)
    await old.start()
    clock.advance(60)
    assert await seal_due(old) == 1
    assert await audit(old) == []


async def backed_up(db: Database, file: Path) -> None:
    """As the backup of a release of that revision."""
    metadata = MetaData()
    async with db.reader.connect() as connection:
        await connection.run_sync(metadata.reflect)
        tables = [
            one for one in metadata.sorted_tables if one.name != "alembic_version"
        ]
        rows = {one: (await connection.execute(one.select())).all() for one in tables}
    with ArchiveWriter(file) as archive:
        counts = {one.name: len(rows[one]) for one in tables}
        archive.header(Header("0008", 1, counts))
        for table in tables:
            kinds = [
                (one.name, "bytes" if isinstance(one.type, LargeBinary) else "plain")
                for one in table.columns
            ]
            archive.table(TableHead(table.name, kinds))
            for row in rows[table]:
                archive.row(row)


async def restore(db: Database, file: Path, *, accept: bool = False) -> None:
    await restore_backup(
        db, file, lambda _: None, lambda *_: None, accept_broken_seals=accept
    )


async def tables_of(db: Database) -> list[str]:
    async with db.reader.connect() as connection:
        return await connection.run_sync(lambda one: inspect(one).get_table_names())


@pytest.mark.parametrize("accept", [False, True])
async def test_an_older_backup_is_restored_only_as_it_was_sealed(
    old: Database, empty_url: str, clock: OffsetClock, tmp_path: Path, *, accept: bool
) -> None:
    sound, forged = tmp_path / "sound", tmp_path / "forged"
    await backed_up(old, sound)
    await tamper(old, _TAMPERING["a memo"][0])
    await backed_up(old, forged)
    db = open_database(empty_url, clock)
    try:
        with pytest.raises(BrokenSeals, match="was changed after seal 1"):
            await restore(db, forged)
        assert await tables_of(db) == [], "nothing of it is there"
        await restore(db, forged if accept else sound, accept=accept)
        assert await is_current(db)
        assert await ids_of(db) == await ids_of(old)
        assert await audit(db) == []
    finally:
        await db.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_operator_is_told_what_is_wrong_and_what_he_can_do(
    old: Database, database_url: str, tmp_path: Path
) -> None:
    await tamper(old, _TAMPERING["a memo"][0])
    await old.close()
    settings = {"DATABASE_URL": database_url}
    refused = await run("migrate", cwd=tmp_path, **settings)
    assert refused.code == 2
    assert "was changed after seal 1" in refused.err
    assert "Restore a backup from before" in refused.err
    assert "Traceback" not in refused.said
    accepted = await run("migrate", "--accept-broken-seals", cwd=tmp_path, **settings)
    assert (accepted.code, accepted.out) == (0, "The database is up to date.\n")
    assert "was changed after seal 1" in accepted.err
