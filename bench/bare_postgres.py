"""The least that a charge could be on PostgreSQL: pgbench sends a statement for each."""

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


def script(customers: int) -> str:
    """A charge of any of so many customers, as pgbench runs it."""
    return _CHARGE.format(customers=customers)


def pgbench(server: PostgresServer, name: str, script: Path, seconds: float) -> float:
    """How often in a second; ``n`` is a variable that a script may count in."""
    told = server.pgbench(
        *("-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "1", "-D", "n=0"),
        *("-T", str(max(1, round(seconds))), "-f", str(script), name),
    )
    found = _TPS.search(told)
    if found is None:
        raise subprocess.SubprocessError(told)
    return float(found.group(1))
