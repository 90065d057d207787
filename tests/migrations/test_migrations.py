"""The migrations build exactly what the models describe, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from tallystick.kernel.db import Database, open_database, query
from tallystick.migrations import differences, downgrade, is_current, upgrade
from tallystick.migrations.tables import metadata


@pytest.fixture
async def empty_db(empty_url: str) -> AsyncIterator[Database]:
    db = open_database(empty_url)
    yield db
    await db.close()


async def _shape(db: Database) -> dict[str, Any]:
    """Tables with columns, keys, checks and indexes, and the other objects by name."""
    async with db.writer.connect() as connection:
        tables = await connection.run_sync(_tables)
        others = await connection.execute(text(_OTHERS[db.is_sqlite]))
        return {**tables, "others": sorted(map(str, others.all()))}


_OTHERS = {
    True: "SELECT type, name FROM sqlite_master WHERE type IN ('view', 'trigger')",
    False: "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    " UNION ALL SELECT viewname FROM pg_views WHERE schemaname = 'public'"
    " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
}


def _tables(connection: Connection) -> dict[str, Any]:
    found = inspect(connection)

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        return str(value)

    def named(rows: list[Any]) -> list[str]:
        return sorted(repr(sorted(plain(dict(row)).items())) for row in rows)

    return {
        table: {
            "columns": named(
                [row | {"type": str(row["type"])} for row in found.get_columns(table)]
            ),
            "key": found.get_pk_constraint(table),
            "unique": named(found.get_unique_constraints(table)),
            "checks": named(found.get_check_constraints(table)),
            "references": named(found.get_foreign_keys(table)),
            "indexes": named(found.get_indexes(table)),
        }
        for table in found.get_table_names()
        if table != "alembic_version"
    }


async def test_the_migrated_schema_is_that_of_the_models(
    unaudited_db: Database, empty_url: str
) -> None:
    assert await differences(unaudited_db) == []
    engine = create_async_engine(empty_url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
        declared = await connection.run_sync(_tables)
    await engine.dispose()
    migrated = await _shape(unaudited_db)
    migrated.pop("others")
    assert migrated == declared


async def test_an_empty_database_becomes_current(empty_db: Database) -> None:
    assert not await is_current(empty_db)
    await upgrade(empty_db)
    assert await is_current(empty_db)
    await upgrade(empty_db)
    await empty_db.start()
    async with empty_db.read() as session:
        rows = await query(session, "SELECT boots, created_at_ms FROM installation")
    assert [row["boots"] for row in rows] == [1]
    assert rows[0]["created_at_ms"] > 1_700_000_000_000


@pytest.mark.parametrize("revision", ["base", "0001"])
async def test_down_and_up_again_ends_where_it_began(
    empty_db: Database, revision: str
) -> None:
    await upgrade(empty_db)
    before = await _shape(empty_db)
    await downgrade(empty_db, revision)
    assert not await is_current(empty_db)
    await upgrade(empty_db)
    assert await _shape(empty_db) == before
    await empty_db.start()


async def test_down_to_the_base_leaves_nothing(empty_db: Database) -> None:
    await upgrade(empty_db)
    await downgrade(empty_db)
    assert await _shape(empty_db) == {"others": []}


async def test_an_older_schema_is_not_current(empty_db: Database) -> None:
    await upgrade(empty_db)
    async with empty_db.writer.begin() as connection:
        await connection.execute(
            text("UPDATE alembic_version SET version_num = '0001'")
        )
    assert not await is_current(empty_db)


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(
    empty_db: Database,
) -> None:
    async with empty_db.writer.begin() as connection:
        await connection.execute(text("CREATE VIEW entry AS SELECT 1 AS in_the_way"))
    before = await _shape(empty_db)
    with pytest.raises(Exception, match="entry"):
        await upgrade(empty_db)
    assert await _shape(empty_db) == before
    async with empty_db.writer.begin() as connection:
        await connection.execute(text("DROP VIEW entry"))
    await upgrade(empty_db)
    assert await is_current(empty_db)


async def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    several = [open_database(empty_url) for _ in range(4)]
    await asyncio.gather(*[upgrade(one) for one in several])
    assert await is_current(several[0])
    for one in several:
        await one.close()


def test_every_table_is_known_to_the_migrations() -> None:
    import tallystick

    root = Path(tallystick.__file__).parent
    declaring = {
        one.relative_to(root)
        for one in root.rglob("*.py")
        if "table=True" in one.read_text()
    }
    from tallystick.migrations import tables

    known = {Path(str(room.__file__)).relative_to(root) for room in tables.ROOMS}
    assert declaring - {Path("kernel/tables.py")} == known
