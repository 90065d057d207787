"""A disk whose power is cut: what was synced stays, of the rest anything may.

The model, per file: its durable content, and the operations since its last sync. In a
cut each of those operations is kept, lost or torn on its own, in no order: a write is
kept or lost by the sector, and now and then a sector holds garbage instead. Truncation,
a new file's name and a file's removal are kept or lost, too, unless they were synced:
SQLite syncs the folder with the first sync of a new log or journal. Lost bytes are
those that were there before, or zeros. Bytes beside a write stay as they were, which
SQLite calls powersafe overwrite and assumes of every disk.
(https://www.sqlite.org/atomiccommit.html, https://www.sqlite.org/psow.html)
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from soak.recorder import Create, Delete, Operation, Sync, Truncate, Write

_KEPT = (0.0, 0.1, 0.5, 0.9, 1.0)
_GARBAGE = (0.0, 0.0, 0.05)
_SECTORS = (512, 4096)

Files = dict[str, bytes]


@dataclass
class _File:
    """``durable`` is ``None`` while the folder durably has no such file."""

    durable: bytearray | None = None
    pending: list[Operation] = field(default_factory=list)

    def sync(self) -> None:
        for one in self.pending:
            self.durable = _done(self.durable, one)
        self.pending.clear()


def _done(content: bytearray | None, operation: Operation) -> bytearray | None:
    """The content after the whole of an operation."""
    match operation:
        case Create():
            return bytearray()
        case Delete():
            return None
        case Truncate(size=size) if content is not None:
            _resize(content, size)
        case Write(offset=offset, data=data) if content is not None:
            _put(content, offset, data)
    return content


def _resize(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        _resize(content, offset)
    content[offset : offset + len(data)] = data


@dataclass
class Cut:
    """What was left, and how many of the unsynced operations were lost or torn."""

    files: Files
    spoilt: int


class Disk:
    """Begins with files that are durable."""

    def __init__(self, files: Files) -> None:
        self._files = {name: _File(bytearray(data)) for name, data in files.items()}

    def do(self, operations: Iterable[Operation]) -> None:
        """Go on until the last of them was done."""
        for one in operations:
            file = self._files.setdefault(one.name, _File())
            if isinstance(one, Sync):
                file.sync()
                continue
            file.pending.append(one)
            if isinstance(one, Delete) and one.is_durable:
                file.sync()

    def cut(self, chance: random.Random) -> Cut:
        """The files after a power cut at this moment; the disk itself goes on."""
        luck = _Luck(chance)
        left = {name: luck.left_of(file) for name, file in self._files.items()}
        files = {name: bytes(data) for name, data in left.items() if data is not None}
        return Cut(files, luck.spoilt)


class _Luck:
    """How kind one cut is, and what it does to a file."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._kept = chance.choice(_KEPT)
        self._garbage = chance.choice(_GARBAGE)
        self._sector = chance.choice(_SECTORS)
        self.spoilt = 0

    def _keeps(self) -> bool:
        return self._chance.random() < self._kept

    def left_of(self, file: _File) -> bytearray | None:
        content = None if file.durable is None else bytearray(file.durable)
        # Whether the name still leads to the file that is written to.
        is_linked = True
        for one in file.pending:
            if isinstance(one, Write):
                if is_linked and content is not None:
                    self._tear(content, one)
                continue
            is_kept = self._keeps()
            self.spoilt += not is_kept
            if isinstance(one, Create):
                is_linked = is_kept
            if is_kept:
                content = _done(content, one)
        return content

    def _tear(self, content: bytearray, write: Write) -> None:
        at, end, was_spoilt = write.offset, write.offset + len(write.data), False
        while at < end:
            after = min(end, at - at % self._sector + self._sector)
            part = write.data[at - write.offset : after - write.offset]
            if self._chance.random() < self._garbage:
                part, was_spoilt = self._chance.randbytes(len(part)), True
            elif not self._keeps():
                part, was_spoilt = b"", True
            if part:
                _put(content, at, part)
            at = after
        self.spoilt += was_spoilt


def read_files(folder: Path) -> Files:
    """What is in a folder, but for SQLite's shared memory, which a cut takes anyway."""
    return {
        one.name: one.read_bytes()
        for one in folder.iterdir()
        if not one.name.endswith("-shm")
    }


def write_files(folder: Path, files: Files) -> None:
    """A new folder with these files."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
