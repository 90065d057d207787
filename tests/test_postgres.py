"""The tests' own PostgreSQL starts beside whatever else runs on the machine."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallystick.demo.ports import free_port
from tests.postgres import PostgresServer


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="tallystick-postgres-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody took in the very moment in which it was found free."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


async def test_a_port_that_was_lost_is_given_up_for_another(
    folder: Path, taken_port: int
) -> None:
    lost = [taken_port, taken_port]
    server = PostgresServer(folder, lambda: lost.pop() if lost else free_port())
    server.start()
    try:
        assert lost == []
        assert f":{taken_port}/" not in server.url("postgres")
        await server.drop_database(await server.create_database("template1"))
    finally:
        server.stop()


def test_a_server_that_never_starts_says_why(folder: Path, taken_port: int) -> None:
    server = PostgresServer(folder, lambda: taken_port)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        server.start()
    assert "Address already in use" in "".join(failed.value.__notes__)


async def test_a_setting_is_taken_and_the_others_stay(folder: Path) -> None:
    server = PostgresServer(folder, durable=True, settings=["work_mem=5MB"])
    server.start()
    try:
        assert await server.ask("SHOW work_mem") == "5MB"
        assert await server.ask("SHOW fsync") == "on"
    finally:
        server.stop()
