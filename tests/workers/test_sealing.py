"""A server seals the journal by itself, and the operator's audit tells how far."""

import asyncio
import json
from pathlib import Path

from tallystick.chain.local import LocalChain
from tallystick.customers.wallets import create_customer
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database
from tallystick.ledger.links import Head
from tallystick.ledger.sealing import seal_due
from tests.ledger.bookings import give
from tests.ledger.sealed import head_of
from tests.live import make_settings, start_server
from tests.processes import run
from tests.test_cli import all_of, require_refusal


async def test_books_of_before_are_sealed_when_the_server_starts(
    db: Database, clock: OffsetClock, punctual: LocalChain, database_url: str
) -> None:
    clock.advance(-60)
    await give(db, 50)
    assert (await head_of(db)).number == 0
    live = await start_server(make_settings(database_url, punctual.url, 0))
    try:
        for _ in range(400):
            if (await head_of(db)).number:
                break
            await asyncio.sleep(0.05)
        assert (await head_of(db)).number == 1
    finally:
        await live.stop()


async def test_the_audit_tells_the_newest_seal_and_looks_for_a_noted_one(
    sqlite_url: str, tmp_path: Path
) -> None:
    db = open_database(sqlite_url, OffsetClock(-3_600_000))
    await db.start()
    await give(db, 50, await db.write(create_customer))
    await db.close()
    db = open_database(sqlite_url)
    assert await seal_due(db) == 1
    head = await head_of(db)
    await db.close()

    def audit(*options: str) -> object:
        return run("audit", "--books-only", *options, cwd=tmp_path, **settings)

    settings = {"DATABASE_URL": sqlite_url}
    other = Head(1, bytes(32)).note
    told, document, kept, lost, unread = await all_of(
        audit(),
        audit("--json"),
        audit("--seal", head.note),
        audit("--seal", head.note, "--seal", other, "--seal", f"2{other[1:]}"),
        audit("--seal", head.note[:-1]),
    )
    assert told.code == 0
    assert f"seal    {head.note}\n" in told.out
    assert "sealed  up to 20" in told.out
    seal = json.loads(document.out)["seal"]
    assert f"{seal['number']}:{seal['digest']}" == head.note
    assert 0 < db.clock.now_ms() - seal["through_ms"] - 3_600_000 < 120_000
    assert (kept.code, lost.code) == (0, 1)
    noted = "BROKEN  I15 a seal that was noted is in the chain: seal"
    assert f"{noted} 1 is another than the one that was noted" in lost.out
    assert f"{noted} 2 is not there" in lost.out
    require_refusal(unread, "--seal", "64 hexadecimal digits")
