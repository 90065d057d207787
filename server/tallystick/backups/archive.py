"""The file of a backup: JSON lines, compressed, with an end that vouches for the rest.

    {"tallystick_backup": 1, "revision": "0002", "taken_at_ms": …, "rows": {…}}
    {"table": "customer", "columns": [["id", "plain"], …]}
    [123, …]                                     one line for each row
    {"end": {"rows": 4711, "sha256": "…"}}

It is the same from SQLite and from PostgreSQL, and ``zcat`` shows it. The hash is over
every line before the last, so a file that was cut or changed is refused as a whole.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tallystick.backups.errors import UnreadableBackup
from tallystick.kernel import json
from tallystick.kernel.new_file import NewFile

FORMAT = 1
_LONGEST_LINE = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """``revision`` is that of the schema, ``rows`` how many each table has."""

    revision: str
    taken_at_ms: int
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TableHead:
    """What the rows that follow are; a column's kind is ``plain`` or ``bytes``."""

    table: str
    columns: Sequence[tuple[str, str]]


class ArchiveWriter:
    """Writes the file (``NewFile``), with an end that vouches for the rest.

    Raises ``FileExists`` or ``UnwritableFile``.
    """

    def __init__(self, path: Path) -> None:
        self._file = NewFile(path)
        self._hash = hashlib.sha256()
        self._rows = 0

    def __enter__(self) -> Self:
        raw = self._file.__enter__().raw
        self._gzip = gzip.GzipFile(
            filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            end = {"rows": self._rows, "sha256": self._hash.hexdigest()}
            self._gzip.write(json.dumps({"end": end}) + b"\n")
        self._gzip.close()
        self._file.__exit__(kind, error, trace)

    def header(self, header: Header) -> None:
        """The first line."""
        self._line(
            {
                "tallystick_backup": FORMAT,
                "revision": header.revision,
                "taken_at_ms": header.taken_at_ms,
                "rows": dict(header.rows),
            }
        )

    def table(self, head: TableHead) -> None:
        """The line before a table's rows."""
        columns = [list(column) for column in head.columns]
        self._line({"table": head.table, "columns": columns})

    def row(self, values: Sequence[Any]) -> None:
        """One row; bytes become hexadecimal."""
        self._rows += 1
        self._line(
            [value.hex() if isinstance(value, bytes) else value for value in values]
        )

    def _line(self, value: Any) -> None:
        line = json.dumps(value) + b"\n"
        self._hash.update(line)
        self._gzip.write(line)


def verified(path: Path) -> Header:
    """What a whole and unchanged file says of itself; raises ``UnreadableBackup``."""
    items = read_archive(path)
    header = next(items)
    assert isinstance(header, Header), "the first line is the header"
    for _ in items:
        pass
    return header


def read_archive(path: Path) -> Iterator[Header | TableHead | list[Any]]:
    """The header, then each table's head and its rows; raises ``UnreadableBackup``."""
    try:
        yield from _items(path)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise UnreadableBackup(f"{path}: {_words(error)}") from error


def _words(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    return "it is no whole backup" if not str(error) else str(error)


def _items(path: Path) -> Iterator[Header | TableHead | list[Any]]:
    digest, rows = hashlib.sha256(), 0
    kinds: list[str] = []
    with gzip.open(path, "rb") as file:
        yield _header(_next_line(file, digest))
        while True:
            before = digest.copy()
            item = _next_line(file, digest)
            if isinstance(item, list):
                rows += 1
                yield _row(item, kinds)
            elif "end" in item:
                _require_end(item["end"], rows, before.hexdigest())
                return
            else:
                columns = [(str(name), str(kind)) for name, kind in item["columns"]]
                kinds = [kind for _, kind in columns]
                yield TableHead(str(item["table"]), columns)


def _next_line(file: Any, digest: Any) -> Any:
    line = file.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise ValueError("it breaks off")
    digest.update(line)
    return json.loads(line)


def _header(found: Any) -> Header:
    if not isinstance(found, dict) or found.get("tallystick_backup") != FORMAT:
        raise ValueError("it is no backup of Tallystick")
    rows = {str(name): int(count) for name, count in found["rows"].items()}
    return Header(str(found["revision"]), int(found["taken_at_ms"]), rows)


def _row(values: list[Any], kinds: list[str]) -> list[Any]:
    return [
        bytes.fromhex(value) if kind == "bytes" and value is not None else value
        for value, kind in zip(values, kinds, strict=True)
    ]


def _require_end(end: Any, rows: int, digest: str) -> None:
    if end["rows"] != rows or end["sha256"] != digest:
        raise ValueError("its content is not what its last line vouches for")
