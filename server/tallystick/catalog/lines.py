"""Where in a TOML text a key stands; ``tomllib`` does not tell.

This only finds lines for messages about a text that ``tomllib`` has accepted, so it
knows headers and keys and skips everything else.
"""

import re
from collections.abc import Sequence

Path = tuple[str | int, ...]

_PART = r"""[A-Za-z0-9_-]+|"[^"\\]*"|'[^']*'"""
_DOTTED = rf"(?:{_PART})(?:\s*\.\s*(?:{_PART}))*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_MULTILINE = re.compile(r'"{3}(?:\\.|[^\\])*?"{3,5}|\'{3}.*?\'{3,5}', re.DOTALL)
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|\'[^\']*\'|#.*')


class LineIndex:
    """The line of each table and key; an array of tables counts from 0."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        self._last: dict[Path, int] = {}
        self._table: Path = ()
        self._depth = 0
        # The line breaks stay, so that the count of lines stays.
        flat = _MULTILINE.sub(lambda found: '""' + "\n" * found[0].count("\n"), text)
        for number, line in enumerate(flat.splitlines(), start=1):
            self._read(number, line)

    def line_of(self, path: Sequence[str | int]) -> int | None:
        """The line, from 1, of the key or else of the nearest table around it."""
        for length in range(len(path), 0, -1):
            if tuple(path[:length]) in self._lines:
                return self._lines[tuple(path[:length])]
        return None

    def _read(self, number: int, line: str) -> None:
        if not self._depth:
            if header := _HEADER.match(line):
                self._table = self._enter(header[2], is_array=header[1] == "[[")
                self._lines.setdefault(self._table, number)
                return
            if key := _KEY.match(line):
                self._note(self._table, _split(key[1]), number)
        bare = _STRING_OR_COMMENT.sub("", line)
        self._depth += sum(map(bare.count, "[{")) - sum(map(bare.count, "]}"))

    def _note(self, table: Path, parts: Sequence[str], number: int) -> None:
        for length in range(1, len(parts) + 1):
            self._lines.setdefault((*table, *parts[:length]), number)

    def _enter(self, dotted: str, *, is_array: bool) -> Path:
        path: Path = ()
        parts = _split(dotted)
        for position, part in enumerate(parts, start=1):
            path = (*path, part)
            if is_array and position == len(parts):
                self._last[path] = self._last.get(path, -1) + 1
            if path in self._last:
                path = (*path, self._last[path])
        return path


def _split(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in re.findall(_PART, dotted)]
