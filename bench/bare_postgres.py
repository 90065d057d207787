"""The baseline on PostgreSQL: pgbench sends one statement for each charge."""

import re
import subprocess
from pathlib import Path

import asyncpg
from tests.postgres import PostgresServer

_SCHEMA = """
    CREATE TABLE balance (id bigint PRIMARY KEY, balance bigint, held bigint,
                          CHECK (balance - held >= 0));
    CREATE TABLE key (key bytea PRIMARY KEY);
    CREATE TABLE transfer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
                           account bigint, amount bigint, balance_after bigint);
"""
_CHARGE = """
    \\set account random(1, {customers})
    WITH once AS (
        INSERT INTO key VALUES (uuid_send(gen_random_uuid()))
        ON CONFLICT DO NOTHING RETURNING 1),
    spent AS (
        UPDATE balance SET balance = balance - 1
         WHERE id = :account AND balance - held >= 1 AND EXISTS (SELECT FROM once)
        RETURNING id, balance)
    INSERT INTO transfer (account, amount, balance_after)
    SELECT id, 1, balance FROM spent;
"""
CLIENTS = 32
_TPS = re.compile(r"tps = ([0-9.]+) \(without")


async def make_tables(url: str, customers: int) -> None:
    """The bare tables with so many customers, as a charge needs them."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_SCHEMA)
        await connection.execute(
            "INSERT INTO balance SELECT n, 1::bigint << 50, 0"
            " FROM generate_series(1, $1::bigint) AS n",
            customers,
        )
    finally:
        await connection.close()


def charges_per_second(
    server: PostgresServer, name: str, folder: Path, *, customers: int, seconds: float
) -> float:
    """What ``CLIENTS`` connections of pgbench get through."""
    script = folder / f"charge-{customers}.sql"
    script.write_text("\n".join(_CHARGE.format(customers=customers).split("\n")))
    told = server.pgbench(
        *("-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1"),
        *("-T", str(max(1, round(seconds))), "-f", str(script), name),
    )
    found = _TPS.search(told)
    if found is None:
        raise subprocess.SubprocessError(told)
    return float(found.group(1))
