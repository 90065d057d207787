"""Roles as docs/databases.md makes them: what is posted is out of their reach."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from eth_account import Account
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.credits.calls import capture, hold, release
from tests.ledger.bookings import (
    audit,
    book,
    buy,
    charge,
    give,
    give_lot,
    newest_grant,
    refund,
    void,
)
from tests.live import Buyer, make_settings, start_server
from tests.postgres import PostgresServer

from tallystick.backups.restore import restore_backup
from tallystick.backups.take import take_backup
from tallystick.chain.local import LocalChain
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database
from tallystick.kernel.money import UsdcAtomic
from tallystick.ledger.breakage import settle_due
from tallystick.ledger.sealing import seal_due
from tallystick.migrations import downgrade, upgrade

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "databases.md"
NAME, OWNER, SERVER = "tallystick", "tallystick_owner", "tallystick_server"
TABLES = ("transfer", "ledger_transaction", "journal_seal")


def documented() -> list[list[str]]:
    blocks = re.findall(r"```sql\n(.+?)```", DOCUMENT.read_text(), re.DOTALL)
    return [[one for one in block.split(";\n") if one] for block in blocks]


async def say(db: Database, *statements: str) -> None:
    async with db.writer.begin() as connection:
        for one in statements:
            await connection.execute(text(one))


@pytest.fixture
async def owner(
    postgres: PostgresServer, clock: OffsetClock
) -> AsyncIterator[Database]:
    """The database as its owner sees it, who is no superuser, migrated."""
    made, granted, _ = documented()
    for statement in made:
        await postgres.administer(statement)
    db = open_database(postgres.url(NAME, OWNER), clock)
    try:
        await upgrade(db)
        await say(db, *granted)
        yield db
    finally:
        await db.close()
        await postgres.drop_database(NAME)
        for role in (OWNER, SERVER):
            await postgres.administer(f"DROP ROLE {role}")


@pytest.fixture
async def served(
    owner: Database, postgres: PostgresServer, clock: OffsetClock
) -> AsyncIterator[Database]:
    db = open_database(postgres.url(NAME, SERVER), clock)
    await db.start()
    yield db
    await db.close()


async def live_a_little(
    db: Database, clock: OffsetClock, *, expires: bool = True
) -> None:
    await buy(db, 1_000_000, 10_000_000)
    await give(db, 50)
    charged = await book(db, charge(3, "a call"))
    await capture(db, await hold(db, 7))
    await release(db, await hold(db, 7))
    await refund(db, charged.ledger_transaction_id)
    await void(db, await newest_grant(db))
    if expires:
        await give_lot(db, 5, expires_at_ms=db.clock.now_ms() + 1000)
    clock.advance(60)
    await db.write(settle_due)
    assert await seal_due(db) == 1


async def refusal(db: Database, statement: str) -> str:
    with pytest.raises(DBAPIError) as refused:
        await say(db, statement)
    return str(refused.value.orig)


async def test_a_role_that_owns_nothing_does_all_that_the_books_need(
    served: Database, clock: OffsetClock
) -> None:
    await live_a_little(served, clock)
    assert await audit(served) == []


async def test_a_whole_server_runs_as_a_role_that_owns_nothing(
    served: Database, punctual: LocalChain
) -> None:
    buyer = Buyer(Account.create())
    await punctual.mint(buyer.address, UsdcAtomic(5_000_000))
    url = served.writer.url.render_as_string(hide_password=False)
    live = await start_server(make_settings(url, punctual.url, 0))
    try:
        client = buyer.client(live)
        answer = await client.get(
            "/features/ai_analyst", params={"address": f"0x{punctual.token.hex()}"}
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["credits-remaining"] == "9"
        await client.aclose()
        live.clock.advance(60)
        assert await seal_due(live.gate.db) == 1
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


@pytest.mark.parametrize("table", TABLES)
async def test_neither_the_owner_nor_the_server_may_change_what_is_posted(
    owner: Database, served: Database, clock: OffsetClock, table: str
) -> None:
    """It is refused for want of the right, before any trigger is asked."""
    await live_a_little(served, clock)
    column = {"transfer": "amount", "ledger_transaction": "memo"}.get(table, "digest")
    for db in (owner, served):
        for statement in (
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table} CASCADE",
        ):
            assert "permission denied for table" in await refusal(db, statement)
    assert "must be owner" in await refusal(
        served, f"DROP TRIGGER {table}_append_only ON {table}"
    )
    disable = f"ALTER TABLE {table} DISABLE TRIGGER ALL"
    assert "must be owner" in await refusal(served, disable)
    assert await audit(served) == []


async def test_an_id_that_the_owner_may_lock_is_not_changed_unseen(
    owner: Database, served: Database, clock: OffsetClock
) -> None:
    """The one right that is left, which PostgreSQL needs to check references."""
    await live_a_little(served, clock)
    change = "UPDATE ledger_transaction SET id = id + 1"
    assert "append-only" in await refusal(owner, change)
    await say(
        owner, "DROP TRIGGER ledger_transaction_append_only ON ledger_transaction"
    )
    assert "violates foreign key constraint" in await refusal(owner, change)
    await say(owner, f"{change} WHERE kind = 'expiry'")
    found = {one.invariant for one in await audit(served)}
    assert "I3 a transfer stands between accounts, in a transaction" in found


async def test_the_audit_finds_a_right_that_was_given_back(
    owner: Database, served: Database
) -> None:
    await say(owner, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {SERVER}")
    (finding,) = await audit(served)
    assert finding.invariant == "I2 nobody has the right to change what is posted"
    assert f"'holder': '{SERVER}'" in finding.detail
    *_, taken = documented()
    await say(owner, *[one.replace(OWNER, SERVER) for one in taken[:1]])
    await say(owner, *taken)
    assert await audit(served) == []


async def test_rights_that_were_given_before_the_tables_came_are_taken_too(
    owner: Database, served: Database
) -> None:
    await downgrade(owner)
    await say(
        owner,
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {SERVER}",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
    )
    await upgrade(owner)
    assert await audit(served) == []
    denied = await refusal(served, "DELETE FROM transfer")
    assert "permission denied" in denied


async def test_steps_back_give_the_owner_his_rights_and_forward_take_them(
    owner: Database, clock: OffsetClock
) -> None:
    """So a step that rewrites old rows can run, and does in 0004.

    Before 0007 every transaction had a key, so nothing expires here.
    """
    await owner.start()
    await live_a_little(owner, clock, expires=False)
    await downgrade(owner, "0004")
    assert "append-only" in await refusal(owner, "DELETE FROM transfer")
    await upgrade(owner)
    assert "permission denied" in await refusal(owner, "DELETE FROM transfer")
    await seal_due(owner)
    assert await audit(owner) == []


async def test_the_owner_restores_what_the_server_backed_up(
    served: Database, postgres: PostgresServer, clock: OffsetClock, tmp_path: Path
) -> None:
    await live_a_little(served, clock)
    await take_backup(served, tmp_path / "b", lambda _: None, lambda *_: None)
    await postgres.administer(f"CREATE DATABASE restored OWNER {OWNER}")
    db = open_database(postgres.url("restored", OWNER), clock)
    try:
        await restore_backup(db, tmp_path / "b", lambda _: None, lambda *_: None)
        assert await audit(db) == []
        assert "permission denied" in await refusal(db, "DELETE FROM transfer")
    finally:
        await db.close()
        await postgres.drop_database("restored")
