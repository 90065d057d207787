"""Two PostgreSQL clusters: a primary with its standby, or two that know of no other."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database, open_database
from tallystick.migrations import upgrade
from tests.ledger.bookings import audit
from tests.postgres import PostgresServer
from tests.scale.replicated import Replicated


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tallystick-scale-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="package")
def standby(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """Follows the cluster that all tests use."""
    with _folder() as folder:
        server = PostgresServer(folder)
        server.start_as_standby(postgres)
        yield server
        server.stop()


@pytest.fixture
async def replicated(
    postgres: PostgresServer, standby: PostgresServer
) -> AsyncIterator[Replicated]:
    """A fresh database on both."""
    made = Replicated(postgres, standby, await postgres.create_database())
    await made.catch_up()
    yield made
    await made.catch_up()
    await postgres.drop_database(made.name)


@pytest.fixture(scope="package")
def elsewhere(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A second cluster, which has nothing to do with the one that all tests use."""
    with _folder() as folder:
        server = PostgresServer(folder)
        server.start()
        asyncio.run(server.make_template(upgrade))
        yield server
        server.stop()


@pytest.fixture
async def two_urls(
    postgres: PostgresServer, elsewhere: PostgresServer
) -> AsyncIterator[tuple[str, str]]:
    """An empty ledger on each cluster."""
    servers = (postgres, elsewhere)
    names = [await one.create_database() for one in servers]
    yield postgres.url(names[0]), elsewhere.url(names[1])
    for server, name in zip(servers, names, strict=True):
        await server.drop_database(name)


@pytest.fixture
async def ledgers(
    two_urls: tuple[str, str], clock: OffsetClock
) -> AsyncIterator[tuple[Database, Database]]:
    """Both of them open; each passes its own audit when the test is over."""
    first, second = (open_database(one, clock) for one in two_urls)
    try:
        for one in (first, second):
            await one.start()
        yield first, second
        for one in (first, second):
            assert await audit(one) == []
    finally:
        await first.close()
        await second.close()
