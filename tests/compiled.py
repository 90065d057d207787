"""Statements are compiled once for all databases of one kind that the tests open.

Each test has a database of its own, so engines of its own, and compiling the same SQL
anew took a third of the time of a test that starts a server.
"""

from typing import Any

from sqlalchemy import Connection, Engine, event

_first: dict[str, Engine] = {}


@event.listens_for(Engine, "engine_connect")
def share_compiled(connection: Connection) -> None:
    """From its first connection on, an engine compiles as the first of its kind."""
    engine: Any = connection.engine
    first: Any = _first.setdefault(engine.url.drivername, engine)
    if engine.dialect is first.dialect:
        return
    engine.dialect = connection.dialect = first.dialect
    engine._compiled_cache = first._compiled_cache  # there is no door
