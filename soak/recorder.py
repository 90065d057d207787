"""What SQLite asks of the disk, written down below the very library that Python uses.

A VFS is SQLite's door to the operating system. Ours is the default one of the loaded
library with those functions exchanged that change a file or a folder, or make it
durable. They do what they did, and add a line to a list. So the whole of Tallystick
runs on it unchanged, whichever way it opens its connections.
(https://www.sqlite.org/vfs.html, "wrappers"; the structs are those of sqlite3.h.)
"""

import _sqlite3
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import CFUNCTYPE, Structure, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

_OK = 0
_FCNTL_PRAGMA = 14


@dataclass(frozen=True, slots=True)
class Create:
    """A file that was not there was opened for writing."""

    name: str


@dataclass(frozen=True, slots=True)
class Delete:
    """``is_durable``: its folder was synced as well."""

    name: str
    is_durable: bool


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes at an offset."""

    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """The file ends here."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    """All that was written to the file is durable, and so is a new file's name."""

    name: str


Operation = Create | Delete | Write | Truncate | Sync

# Names as pointers: SQLite keeps more behind a name's end, which must come through.
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
_Control = CFUNCTYPE(c_int, c_void_p, c_int, c_void_p)


class _Vfs(Structure):
    """``sqlite3_vfs``."""

    _fields_: ClassVar = [
        ("iVersion", c_int),
        ("szOsFile", c_int),
        ("mxPathname", c_int),
        ("pNext", c_void_p),
        ("zName", c_char_p),
        ("pAppData", c_void_p),
        ("xOpen", c_void_p),
        ("xDelete", c_void_p),
        # The rest is not called from here, only kept: 11 functions of versions 1 to 3.
        ("others", c_void_p * 14),
    ]


class _Methods(Structure):
    """``sqlite3_io_methods``."""

    _fields_: ClassVar = [
        ("iVersion", c_int),
        ("xClose", c_void_p),
        ("xRead", c_void_p),
        ("xWrite", c_void_p),
        ("xTruncate", c_void_p),
        ("xSync", c_void_p),
        ("xFileSize", c_void_p),
        ("xLock", c_void_p),
        ("xUnlock", c_void_p),
        ("xCheckReservedLock", c_void_p),
        ("xFileControl", c_void_p),
        ("others", c_void_p * 8),
    ]


class Recorder:
    """Operations on the files of one folder, in the order in which they were done.

    SQLite's own locks keep two connections from writing the same file at once, so a
    sync is of all writes above it. ``weaken`` makes of ``PRAGMA synchronous = FULL``
    one of NORMAL, for whoever wants to see that lost.
    """

    def __init__(self, folder: Path, *, weaken: bool = False) -> None:
        self.operations: list[Operation] = []
        self._folder = folder.resolve()
        self._weaken = weaken
        self._names: dict[int, str] = {}
        self._tables: dict[int, _Methods] = {}
        self._vfs = _Vfs.from_buffer_copy(_default())
        self._vfs.zName = b"recorder"
        self._vfs.pNext = None
        self._functions: list[Any] = []
        self._vfs.xOpen = self._function(_Open, self._open)
        self._vfs.xDelete = self._function(_Delete, self._delete)

    def _function(self, kind: Any, function: Any) -> int:
        """Its address; SQLite may call it for as long as the recorder lives."""
        made = kind(function)
        self._functions.append(made)
        return _address(made)

    @contextmanager
    def recording(self) -> Iterator[list[Operation]]:
        """Every connection that is opened meanwhile, anywhere in this process.

        They must be closed before it ends.
        """
        base = _library.sqlite3_vfs_find(None)
        _succeed(_library.sqlite3_vfs_register(ctypes.byref(self._vfs), 1))
        try:
            yield self.operations
        finally:
            _succeed(_library.sqlite3_vfs_register(base, 1))
            _succeed(_library.sqlite3_vfs_unregister(ctypes.byref(self._vfs)))

    def _watched(self, name: int | None) -> str | None:
        """The name in the folder, if it is of ours."""
        if name is None:
            return None
        path = Path(ctypes.string_at(name).decode())
        return path.name if path.parent.resolve() == self._folder else None

    def _open(
        self, _vfs: int, name: int | None, file: int, flags: int, told: int | None
    ) -> int:
        watched = self._watched(name)
        is_new = watched is not None and not (self._folder / watched).exists()
        base = _default()
        done: int = _Open(base.xOpen)(ctypes.addressof(base), name, file, flags, told)
        if done == _OK and watched is not None:
            self._names[file] = watched
            self._exchange_methods(file)
            if is_new:
                self.operations.append(Create(watched))
        return done

    def _exchange_methods(self, file: int) -> None:
        """A file begins with the address of its functions."""
        slot = c_void_p.from_address(file)
        assert slot.value is not None
        if slot.value not in self._tables:
            self._tables[slot.value] = self._methods(_Methods.from_address(slot.value))
        slot.value = ctypes.addressof(self._tables[slot.value])

    def _methods(self, base: _Methods) -> _Methods:
        """The same functions, of which those that matter here take notes."""
        write, truncate = _Write(base.xWrite), _Truncate(base.xTruncate)
        sync, control = _Sync(base.xSync), _Control(base.xFileControl)

        def noted(done: int, operation: Operation) -> int:
            if done == _OK:
                self.operations.append(operation)
            return done

        def x_write(file: int, data: int, size: int, offset: int) -> int:
            wrote = Write(self._names[file], offset, ctypes.string_at(data, size))
            return noted(write(file, data, size, offset), wrote)

        def x_truncate(file: int, size: int) -> int:
            return noted(truncate(file, size), Truncate(self._names[file], size))

        def x_sync(file: int, flags: int) -> int:
            return noted(sync(file, flags), Sync(self._names[file]))

        def x_control(file: int, what: int, argument: int | None) -> int:
            if self._weaken and what == _FCNTL_PRAGMA and argument is not None:
                _weaken_pragma(argument)
            done: int = control(file, what, argument)
            return done

        ours = _Methods.from_buffer_copy(base)
        ours.xWrite = self._function(_Write, x_write)
        ours.xTruncate = self._function(_Truncate, x_truncate)
        ours.xSync = self._function(_Sync, x_sync)
        ours.xFileControl = self._function(_Control, x_control)
        return ours

    def _delete(self, _vfs: int, name: int | None, sync_folder: int) -> int:
        base = _default()
        done: int = _Delete(base.xDelete)(ctypes.addressof(base), name, sync_folder)
        watched = self._watched(name)
        if done == _OK and watched is not None:
            self.operations.append(Delete(watched, bool(sync_folder)))
        return done


def _weaken_pragma(argument: int) -> None:
    """SQLite shows every PRAGMA's name and value to the file before it reads them."""
    _, name, value = (c_void_p * 3).from_address(argument)
    if name is None or value is None:
        return
    said = (ctypes.string_at(name).lower(), ctypes.string_at(value).upper())
    if said == (b"synchronous", b"FULL"):
        ctypes.memmove(value, b"1\0", 2)


def _address(function: Any) -> int:
    address = ctypes.cast(function, c_void_p).value
    assert address is not None
    return address


def _succeed(code: int) -> None:
    assert code == _OK, f"SQLite says {code}"


def _load() -> ctypes.CDLL:
    """The SQLite that Python's own module is linked with, and no other one."""
    library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
    library.sqlite3_vfs_find.restype = c_void_p
    library.sqlite3_vfs_find.argtypes = [c_char_p]
    library.sqlite3_vfs_register.argtypes = [c_void_p, c_int]
    library.sqlite3_vfs_unregister.argtypes = [c_void_p]
    return library


_library = _load()
_found = _library.sqlite3_vfs_find(None)


def _default() -> _Vfs:
    base = _Vfs.from_address(_found)
    assert base.iVersion >= 3
    return base
