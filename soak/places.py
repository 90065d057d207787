"""A folder and a PostgreSQL for a campaign, gone afterwards."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres import PostgresServer


@contextmanager
def folder() -> Iterator[Path]:
    """A folder of one's own. What broke off leaves it, with the logs of the servers."""
    place = Path(tempfile.mkdtemp(prefix="tallystick-soak-"))
    try:
        yield place
    except Exception:
        print(f"what was written until then is in {place}", file=sys.stderr)
        raise
    shutil.rmtree(place)


@contextmanager
def postgres(place: Path, *, durable: bool) -> Iterator[PostgresServer]:
    """A server below the folder; ``durable`` if it will be killed."""
    server = PostgresServer(Path(tempfile.mkdtemp(dir=place)), durable=durable)
    server.start()
    try:
        yield server
    finally:
        server.stop()
