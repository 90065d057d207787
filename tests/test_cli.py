"""The command line, as a program: what it says, what it hides, and its exit code."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import Awaitable
from pathlib import Path

import pytest
from eth_account import Account

from tallystick.chain.local import KEYS, LocalChain
from tallystick.demo.ports import free_port
from tallystick.identity.keys import verify_key
from tallystick.kernel.db import open_database
from tallystick.kernel.seal import Seal
from tests.house import DOLLAR, Wallet
from tests.postgres import PostgresServer
from tests.processes import Ended, environment, run, serving

SECRET = "topsecret" * 8
KEY = f"0x{KEYS[2].hex()}"
PASSWORD = "hunter2"


def settings_for(chain: LocalChain, folder: Path, **more: str) -> dict[str, str]:
    port = free_port()
    return {
        "DATABASE_URL": f"sqlite+aiosqlite:///{folder}/tallystick.sqlite3",
        "RPC_URLS": chain.url,
        "PAY_TO": Account.create().address,
        "RELAYER_KEYS": KEY,
        "SECRET_KEY": SECRET,
        "PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
    } | more


def require_refusal(ended: Ended, *words: str) -> None:
    """It ended with 2 and told what to do, without a traceback and any secret."""
    assert ended.code == 2, ended.said
    for word in words:
        assert word in ended.err.replace("\n", " ").replace("  ", " "), ended.err
    assert ended.out == ""
    assert "Traceback" not in ended.said
    for secret in (SECRET, KEY[2:], PASSWORD):
        assert secret not in ended.said


async def all_of(*programs: Awaitable[Ended]) -> list[Ended]:
    """Two at a time, for starting a Python takes most of it."""
    turn = asyncio.Semaphore(2)

    async def one(program: Awaitable[Ended]) -> Ended:
        async with turn:
            return await program

    return list(await asyncio.gather(*map(one, programs)))


async def test_a_server_without_settings_says_what_to_set(tmp_path: Path) -> None:
    """The console script's own entry, in an interpreter that knows nothing yet."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from tallystick.cli import main; main()", "serve"),
        cwd=tmp_path,
        env=environment({}) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await program.communicate()
    assert program.returncode is not None
    ended = Ended(program.returncode, out.decode(), err.decode())
    require_refusal(
        ended,
        "Tallystick will not start",
        "set TALLYSTICK_PAY_TO",
        "set TALLYSTICK_RPC_URLS",
        "make one with `tallystick secret`",
    )
    assert not (tmp_path / "tallystick.sqlite3").exists(), "nothing was made"


async def test_unsafe_settings_are_refused_in_words(
    punctual: LocalChain, postgres: PostgresServer, tmp_path: Path
) -> None:
    """Each of these is found at another place on the way to a running server."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "tallystick.toml").write_text(f"secret_key = {SECRET}")
    nowhere = f"postgresql+asyncpg://user:{PASSWORD}@127.0.0.1:1/name"

    async def serve(**more: str) -> Ended:
        folder = tmp_path / secrets.token_hex(4)
        folder.mkdir()
        return await run("serve", cwd=folder, **settings_for(punctual, folder, **more))

    mainnet = {"NETWORK": "eip155:8453"}
    ended = await all_of(
        serve(**mainnet),
        serve(**mainnet, RELAYER_KEYS=Account.create().key.to_0x_hex()),
        serve(ASSET="0x" + "0e" * 20),
        serve(DATABASE_URL=nowhere),
        serve(DATABASE_URL=postgres.url("postgres")),
        serve(SETTLE_WAIT="soon", SECRET_KEY=SECRET),
        serve(CATALOG=str(tmp_path / "none.toml")),
        run("serve", cwd=broken),
    )
    words = [
        "one of RELAYER_KEYS is a well-known test key",
        "is a node of chain 84532, not of 8453",
        "The operator must check NETWORK, ASSET and RPC_URLS",
        "check DATABASE_URL",
        "run `tallystick migrate` first",
        "TALLYSTICK_SETTLE_WAIT",
        "none.toml",
        "tallystick.toml is no TOML",
    ]
    for one, word in zip(ended, words, strict=True):
        require_refusal(one, word)


async def test_a_second_server_on_the_same_file_is_refused(
    punctual: LocalChain, tmp_path: Path
) -> None:
    """SQLite has one process; the second is told, and harms nothing."""
    settings = settings_for(punctual, tmp_path)
    async with serving(tmp_path, **settings) as first:
        other = settings_for(punctual, tmp_path) | {"PAY_TO": settings["PAY_TO"]}
        second, migration = await all_of(
            run("serve", cwd=tmp_path, **other), run("migrate", cwd=tmp_path, **other)
        )
        require_refusal(second, "another process serves", "use PostgreSQL for several")
        require_refusal(migration, "another process serves")
        audit = await run("audit", "--json", cwd=tmp_path, **settings)
        assert json.loads(audit.out)["ok"] is True, "reading is no harm"
        assert (await first.end(signal.SIGTERM)).code in {0, -signal.SIGTERM}
    after = await run("migrate", cwd=tmp_path, **settings)
    assert (after.code, after.out) == (0, "The database is up to date.\n")


async def test_a_server_that_is_told_to_stop_closes_and_ends(
    punctual: LocalChain, tmp_path: Path
) -> None:
    async with serving(tmp_path, **settings_for(punctual, tmp_path)) as server:
        ended = await server.end(signal.SIGINT)
    assert ended.code in {0, 1, -signal.SIGINT, 130}
    assert "Traceback" not in ended.said
    assert KEY[2:] not in ended.said
    assert SECRET not in ended.said


async def test_migrate_audit_and_keys(punctual: LocalChain, tmp_path: Path) -> None:
    settings = settings_for(punctual, tmp_path)

    async def tallystick(*arguments: str) -> Ended:
        return await run(*arguments, cwd=tmp_path, **settings)

    early = await all_of(tallystick("audit", "--books-only"), tallystick("service-key"))
    for one in early:
        require_refusal(one, "there is no database at", "run `tallystick migrate`")
    for _ in range(2):
        migrated = await tallystick("migrate")
        assert (migrated.code, migrated.out) == (0, "The database is up to date.\n")

    books, unopened, made, secret = await all_of(
        tallystick("audit", "--books-only", "--json"),
        tallystick("audit"),
        tallystick("service-key", "--name", "till"),
        tallystick("secret"),
    )
    nothing = {"ok": True, "findings": [], "seal": None}
    assert (books.code, json.loads(books.out)) == (0, nothing)
    require_refusal(unopened, "the books are not open yet", "start the server once")
    assert len(secret.out.strip()) >= 64
    key = made.out.strip()
    assert made.code == 0
    assert "key_" in made.err, "its id, beside the secret"
    db = open_database(settings["DATABASE_URL"])
    try:
        async with db.read() as session:
            proven = await verify_key(session, Seal(SECRET.encode()), key)
    finally:
        await db.close()
    assert proven.customer_id is None


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_an_audit_that_finds_something_exits_with_1(
    punctual: LocalChain, tmp_path: Path, kind: str
) -> None:
    import sqlite3

    settings = settings_for(punctual, tmp_path)
    await run("migrate", cwd=tmp_path, **settings)
    with sqlite3.connect(tmp_path / "tallystick.sqlite3") as connection:
        connection.execute("INSERT INTO customer (id, created_at_ms) VALUES (1, 0)")
        connection.execute(
            "INSERT INTO ledger_account (id, code, asset, customer_id)"
            " VALUES (1, 'liabilities:customer:x:credits', 'CREDIT', 1)"
        )
        connection.execute(
            "INSERT INTO account_balance (ledger_account_id, customer_id, balance, held,"
            " deferred, version, revision, burning_left)"
            " VALUES (1, 1, 5, 0, 0, 0, 0, 0)"
        )
    connection.close()
    words, document = await all_of(
        run("audit", "--books-only", cwd=tmp_path, **settings),
        run("audit", "--books-only", "--json", cwd=tmp_path, **settings),
    )
    assert (words.code, document.code) == (1, 1)
    assert "BROKEN  I3 balance equals the sum of entries" in words.out
    assert "The books are not right." in words.out
    assert "sealed  nothing yet\n" in words.out
    assert json.loads(document.out)["ok"] is False


async def test_reconcile_names_a_unit_and_exits_with_1(
    punctual: LocalChain, tmp_path: Path
) -> None:
    import sqlite3

    settings = settings_for(punctual, tmp_path)
    pay_to = bytes.fromhex(settings["PAY_TO"][2:])
    wallet = await Wallet(punctual).fund()
    modes = (("--json",), ("--full", "--json"))

    async def reconcile() -> list[Ended]:
        programs = [run("reconcile", *one, cwd=tmp_path, **settings) for one in modes]
        return await all_of(*programs)

    async with serving(tmp_path, **settings) as server:
        await wallet.send(pay_to, 3 * DOLLAR)
        await punctual.mine(4)
        for _ in range(100):  # the observer looks every two seconds
            told = [json.loads(one.out) for one in await reconcile()]
            if all(one["chain_usdc"] == 3 for one in told):
                break
        for one in told:
            assert one["ok"] is True
            assert one["ledger_usdc"] == one["chain_usdc"] == 3
            assert one["payees"][0]["pay_to"] == settings["PAY_TO"]
        await server.end(signal.SIGTERM)
    with sqlite3.connect(tmp_path / "tallystick.sqlite3") as connection:
        connection.execute("UPDATE chain_transfer SET value = value + 1")
    connection.close()
    for one in await reconcile():
        document = json.loads(one.out)
        assert (one.code, document["ok"]) == (1, False)
        (named,) = [
            item for item in document["findings"] if item["invariant"].startswith("I16")
        ]
        assert f"chain {3 * DOLLAR}, ledger {3 * DOLLAR + 1}" in named["detail"]
        assert named["detail"].startswith("0x")
        assert named["next_step"]
    words = await run("reconcile", cwd=tmp_path, **settings)
    assert words.code == 1
    assert "BROKEN  I16 every Transfer to pay_to" in words.out
    assert "The books are not right." in words.out
