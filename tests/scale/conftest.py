"""Two PostgreSQL clusters: a primary with its standby."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.postgres import PostgresServer
from tests.scale.replicated import Replicated


@pytest.fixture(scope="package")
def standby(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """Follows the cluster that all tests use."""
    folder = Path(tempfile.mkdtemp(prefix="tallystick-standby-"))
    server = PostgresServer(folder)
    server.start_as_standby(postgres)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


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
