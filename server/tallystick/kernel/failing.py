"""A database that fails meanwhile, and what that means for who asked.

Before the commit nothing was written, whatever it was. During the commit only a database
that answers, or has no room, tells as much; else nobody knows until he looks.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from tallystick.kernel.errors import TallystickError, Unavailable
from tallystick.kernel.log import get_logger

# PostgreSQL's SQLSTATEs (its manual, appendix A) by their beginning.
_GONE = ("08", "57P01", "57P02", "57P03", "57P05", "58", "XX")
_FULL = ("53100",)
_TOO_SLOW = ("57014",)
# Managed servers do this when a disk is nearly full, and so does what was the primary.
READ_ONLY = "25006"
# SQLite's primary result codes, the low byte of the extended ones.
_SQLITE_GONE = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_SQLITE_FULL = {sqlite3.SQLITE_FULL}
_log = get_logger(__name__)


class DatabaseBusy(Unavailable):
    """The database gave no turn in time; nothing was written."""

    next_step = "Send the same request again."
    retry_after_seconds = 1


class DatabaseLost(Unavailable):
    """The database went away, or its disk failed, in the middle; nothing was written."""

    next_step = "Send the same request again."
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("the database was lost; nothing was done")


class DatabaseFull(Unavailable):
    """The database's disk has no room left; nothing was written."""

    next_step = (
        "Send the same request again later; the operator must make room on the disk of"
        " the database."
    )
    retry_after_seconds = 30

    def __init__(self) -> None:
        super().__init__("the database has no room left; nothing was done")


class DatabaseReadOnly(Unavailable):
    """The database takes no writes now; nothing was written."""

    next_step = (
        "Send the same request again later; the operator must see why the database is"
        " read-only: its disk may be nearly full, or another server is the primary now."
    )
    retry_after_seconds = 30

    def __init__(self) -> None:
        super().__init__("the database takes no writes now; nothing was done")


class OutcomeUnknown(TallystickError):
    """The database went away during the commit: the whole was done, or nothing."""

    status = 503
    title = "It is not known whether this was done"
    next_step = (
        "Send the same request again with the same Idempotency-Key: it is done once."
        " Without a key, look at your transactions first."
    )
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__("the database was lost at the last moment")


class Commit:
    """Whether a transaction has got so far."""

    has_begun = False


@contextmanager
def told_apart() -> Iterator[Commit]:
    """Raises what has a class here, ``OutcomeUnknown`` only for a commit.

    Other errors of the driver stay what they are.
    """
    commit = Commit()
    try:
        yield commit
    except DBAPIError as error:
        meant = meaning(error.orig, commit=commit.has_begun)
        if meant is None and error.connection_invalidated:
            meant = _lost(commit=commit.has_begun)
        if meant is None:
            raise
        raise meant from error


def meaning(error: BaseException | None, *, commit: bool) -> TallystickError | None:
    """What the driver's error means during the commit or before; else None."""
    kind = type(error).__name__
    if _is_one_of(error, _FULL, _SQLITE_FULL):
        _log.error("database_full", error=kind)
        return DatabaseFull()
    if _is_one_of(error, (READ_ONLY,), set()):
        _log.error("database_read_only", error=kind)
        return DatabaseReadOnly()
    if _is_one_of(error, _TOO_SLOW, set()):
        return DatabaseBusy("the database took too long")
    if _is_one_of(error, _GONE, _SQLITE_GONE):
        _log.warning("database_lost", error=kind, commit=commit)
        return _lost(commit=commit)
    return None


def _lost(*, commit: bool) -> TallystickError:
    return OutcomeUnknown() if commit else DatabaseLost()


def _is_one_of(
    error: BaseException | None, states: tuple[str, ...], codes: set[int]
) -> bool:
    if isinstance(error, sqlite3.Error):
        # Some of the driver's own errors have no code.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in codes
    return str(getattr(error, "sqlstate", None) or "").startswith(states)
