"""Databases, clocks and the audit that follows every test that moves money."""

import asyncio
import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tallystick.credits.audit import audit_credits
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database
from tallystick.ledger.audit import audit_ledger
from tallystick.migrations import upgrade
from tests.alarms import require_no_false_alarm
from tests.postgres import PostgresServer

pytest_plugins = ["tests.compiled", "tests.live", "tests.installation"]

DATABASES = ["sqlite", "postgres"]

# Tests talk to this machine only, and each HTTP client would read the certificates of
# the whole world: a twentieth of the time of all tests.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = os.devnull

# Nobody cuts the power of a test, and copying the files of a database takes a disk
# fifteen times as long: half of the time of all tests on PostgreSQL. Who names a
# folder in TMPDIR gets it; a container's usual 64 MB of memory would be too few.
_MEMORY, _ENOUGH_BYTES = Path("/dev/shm"), 2 * 1024**3
if (
    "TMPDIR" not in os.environ
    and _MEMORY.is_dir()
    and os.access(_MEMORY, os.W_OK)
    and shutil.disk_usage(_MEMORY).free > _ENOUGH_BYTES
):
    os.environ["TMPDIR"] = str(_MEMORY)
    tempfile.tempdir = None  # pytest has asked before


def pytest_collection_finish() -> None:
    """What was imported lives until the end; looking for it in vain takes time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def clock() -> OffsetClock:
    return OffsetClock()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "template.sqlite3"

    async def migrate() -> None:
        db = open_database(f"sqlite+aiosqlite:///{path}")
        await upgrade(db)
        await db.close()

    asyncio.run(migrate())
    return path


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    # Not below pytest's own folder, which others clean up.
    folder = Path(tempfile.mkdtemp(prefix="tallystick-postgres-"))
    server = PostgresServer(folder)
    server.start()
    try:
        asyncio.run(server.make_template(upgrade))
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A freshly migrated, empty database of each kind."""
    if request.param == "sqlite":
        template = request.getfixturevalue("sqlite_template")
        path = tmp_path / "tallystick.sqlite3"
        shutil.copy(template, path)
        yield f"sqlite+aiosqlite:///{path}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        name = asyncio.run(server.create_database())
        yield server.url(name)
        asyncio.run(server.drop_database(name))


@pytest.fixture
async def empty_url(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> AsyncIterator[str]:
    """A database of the same kind without any table."""
    if database_url.startswith("sqlite"):
        yield f"sqlite+aiosqlite:///{tmp_path / 'empty 100%.sqlite3'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = await server.create_database(template="template0")
    yield server.url(name)
    await server.drop_database(name)


@pytest.fixture
async def unaudited_db(
    database_url: str, clock: OffsetClock
) -> AsyncIterator[Database]:
    """An open database that a test may leave broken."""
    database = open_database(database_url, clock)
    await database.start()
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def db(unaudited_db: Database) -> AsyncIterator[Database]:
    """An open database; the invariants must hold when the test is over."""
    yield unaudited_db
    async with unaudited_db.read() as session:
        findings = await audit_ledger(session) + await audit_credits(session)
    assert findings == []
    await require_no_false_alarm(unaudited_db)
