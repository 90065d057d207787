"""The database fails under those who pay: 503 with a way on, and the books are exact."""

import asyncio
from collections import Counter

import httpx
import pytest
from eth_account import Account
from sqlalchemy import NullPool, text
from sqlalchemy.ext.asyncio import create_async_engine

from tallystick.kernel.db import Database
from tests.api.callers import bearer, customer_key
from tests.live import LiveServer

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
DEDUCT = "/api/credits/deduct"
_NO_ROOM = """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$"""
_NOWHERE = """
    CREATE TRIGGER no_room BEFORE INSERT OR UPDATE ON {}
    FOR EACH STATEMENT EXECUTE FUNCTION no_room()"""
_EVERYBODY_ELSE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE pid <> pg_backend_pid() AND datname = current_database()"""
_TABLES = ("ledger_transaction", "installation")


async def deduct(shop: httpx.AsyncClient, key: str, again: str) -> httpx.Response:
    headers = bearer(key) | {"Idempotency-Key": again}
    return await shop.post(DEDUCT, json={"feature": "echo"}, headers=headers)


async def _fill(db: Database) -> None:
    if db.is_sqlite:
        await _pages(db, 1)
        return
    async with db.writer.begin() as connection:
        await connection.execute(text(_NO_ROOM))
        for one in _TABLES:
            await connection.execute(text(_NOWHERE.format(one)))


async def _make_room(db: Database) -> None:
    if db.is_sqlite:
        await _pages(db, 1_000_000)
        return
    async with db.writer.begin() as connection:
        for one in _TABLES:
            await connection.execute(text(f"DROP TRIGGER no_room ON {one}"))
        await connection.execute(text("DROP FUNCTION no_room"))


async def _pages(db: Database, most: int) -> None:
    """The engine's connection and the lane's."""
    pragma = f"PRAGMA max_page_count = {most}"
    async with db.writer.connect() as connection:
        await connection.exec_driver_sql(pragma)
    await db.lane.write(lambda own: own.execute(pragma))  # type: ignore[union-attr]  # SQLite's lane


async def test_without_room_nothing_is_charged_and_the_same_request_goes_on_later(
    shop_server: LiveServer, shop: httpx.AsyncClient
) -> None:
    key = await customer_key(shop_server, Account.create(), 1_000)
    assert (await deduct(shop, key, "first")).status_code == 200
    await _fill(shop_server.gate.db)
    served = 1
    # On SQLite the pages that are there have some room left.
    while (refused := await deduct(shop, key, f"try {served}")).status_code == 200:
        served += 1
    assert refused.status_code == 503
    assert refused.json()["code"] == "database_full"
    assert refused.headers["retry-after"] == "30"
    several = await asyncio.gather(*[deduct(shop, key, str(n)) for n in range(40)])
    told = Counter(one.json().get("code") for one in several)
    served += told.pop(None, 0)
    assert set(told) == {"database_full"}

    await _make_room(shop_server.gate.db)
    last = await deduct(shop, key, f"try {served}")
    assert last.status_code == 200
    assert last.json()["credits"] == 1_000 - served - 1


@ON_POSTGRESQL
async def test_without_room_the_server_is_not_ready(
    shop_server: LiveServer, shop: httpx.AsyncClient
) -> None:
    key = await customer_key(shop_server, Account.create(), 10)
    await _fill(shop_server.gate.db)
    assert (await shop.get("/readyz")).status_code == 200, "nobody has noticed yet"
    assert (await deduct(shop, key, "first")).status_code == 503
    ready = await shop.get("/readyz")
    assert ready.status_code == 503
    assert "no room" in ready.json()["reason"]
    await _make_room(shop_server.gate.db)
    assert (await shop.get("/readyz")).status_code == 200
    assert (await deduct(shop, key, "first")).json()["credits"] == 9


@ON_POSTGRESQL
async def test_whoever_is_cut_off_again_and_again_is_charged_once(
    shop_server: LiveServer, shop: httpx.AsyncClient
) -> None:
    """No answer is a fault of ours, and all say how to go on."""
    key = await customer_key(shop_server, Account.create(), 1_000)
    cuts = 0

    async def until_served(name: str) -> None:
        while (answer := await deduct(shop, key, name)).status_code != 200:
            assert answer.status_code == 503, answer.text
            assert "retry-after" in answer.headers
            await asyncio.sleep(0.05)

    async def cut() -> None:
        nonlocal cuts
        engine = create_async_engine(shop_server.gate.db.writer.url, poolclass=NullPool)
        async with engine.connect() as connection:
            while True:
                cuts += len((await connection.execute(text(_EVERYBODY_ELSE))).all())
                await asyncio.sleep(0.05)

    cutting = asyncio.create_task(cut())
    for part in range(10):
        await asyncio.gather(*[until_served(f"{part} {n}") for n in range(20)])
    cutting.cancel()
    await asyncio.gather(cutting, return_exceptions=True)
    assert cuts > 20, "hardly anybody was cut off"
    last = await deduct(shop, key, "last")
    assert last.json()["credits"] == 1_000 - 200 - 1


@ON_POSTGRESQL
async def test_books_that_take_no_writes_are_told_and_need_no_restart_afterwards(
    shop_server: LiveServer, shop: httpx.AsyncClient
) -> None:
    key = await customer_key(shop_server, Account.create(), 1_000)
    served = await _serve_some(shop, key, "before")
    await _set(shop_server, "= on")
    several = await asyncio.gather(*[deduct(shop, key, str(n)) for n in range(20)])
    assert {one.status_code for one in several} == {503}
    assert {one.json()["code"] for one in several} == {"database_read_only"}
    ready = await shop.get("/readyz")
    assert (ready.status_code, "no writes" in ready.json()["reason"]) == (503, True)
    await _set(shop_server, "= off")
    assert (await shop.get("/readyz")).status_code == 200
    served += await _serve_some(shop, key, "after")
    assert (await deduct(shop, key, "0")).json()["credits"] == 1_000 - served - 1


async def _serve_some(shop: httpx.AsyncClient, key: str, when: str) -> int:
    calls = [deduct(shop, key, f"{when} {n}") for n in range(20)]
    answers = await asyncio.gather(*calls)
    assert {one.status_code for one in answers} == {200}
    return len(answers)


async def _set(server: LiveServer, value: str) -> None:
    """Of connections that are made from now on, and all are."""
    engine = create_async_engine(server.gate.db.writer.url, poolclass=NullPool)
    name = engine.url.database
    async with engine.begin() as connection:
        await connection.execute(text("SET TRANSACTION READ WRITE"))
        await connection.execute(
            text(f'ALTER DATABASE "{name}" SET default_transaction_read_only {value}')
        )
    if value == "= on":
        async with engine.connect() as connection:
            await connection.execute(text(_EVERYBODY_ELSE))
