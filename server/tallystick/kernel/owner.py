"""One process owns a SQLite file (docs/decisions/0002); the second one is told so."""

import fcntl
from pathlib import Path
from types import TracebackType
from typing import Self


class AlreadyOwned(Exception):
    """Another process serves this database."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"another process serves {path}. SQLite takes one server process: stop the"
            " other one, or use PostgreSQL for several."
        )


class FileOwner:
    """Holds the database file for this process, until closed or dead."""

    def __init__(self, database: Path) -> None:
        self._database = database
        # A link to it is the same file by another name.
        itself = database.resolve()
        self._lock = itself.with_name(itself.name + ".owner")

    def __enter__(self) -> Self:
        self._file = self._lock.open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise AlreadyOwned(self._database) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
