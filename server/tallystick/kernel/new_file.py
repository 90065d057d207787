"""A file that is whole or not there, and never in the place of another."""

import os
from pathlib import Path
from tempfile import mkstemp
from types import TracebackType
from typing import BinaryIO, Self

from tallystick.kernel.errors import BadInput, Conflict


class FileExists(Conflict):
    """A file of that name is there already; none is ever overwritten."""

    is_for_operators = True
    next_step = "Name another file, or move the old one away."


class UnwritableFile(BadInput):
    """The file cannot be written at that place."""

    is_for_operators = True
    title = "The file cannot be written"
    next_step = "Name a file in a folder that exists and that you may write to."


class NewFile:
    """Writes beside the file, and gives it its name once it is whole and on disk.

    Nobody but its owner may read it. Raises ``FileExists`` or ``UnwritableFile``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        if self._path.exists():
            raise FileExists(f"{self._path} exists")
        folder, start = self._path.parent, f"{self._path.name}."
        try:
            # A name of its own, so that two who write the same file do not mix.
            number, part = mkstemp(".part", start, folder)
        except OSError as error:
            raise UnwritableFile(f"{self._path}: {error.strerror}") from error
        self._part = Path(part)
        self.raw: BinaryIO = os.fdopen(number, "wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._keep()
        finally:
            self.raw.close()
            self._part.unlink()

    def _keep(self) -> None:
        self.raw.flush()
        os.fsync(self.raw.fileno())
        try:
            # Unlike rename, this fails if somebody else made the file meanwhile.
            os.link(self._part, self._path)
        except FileExistsError as error:
            raise FileExists(f"{self._path} exists") from error
