"""One process serves a SQLite file."""

from pathlib import Path

import pytest

from tallystick.kernel.owner import AlreadyOwned, FileOwner


def test_a_second_owner_is_refused_and_told_what_to_do(tmp_path: Path) -> None:
    database = tmp_path / "books.sqlite3"
    with FileOwner(database):
        with pytest.raises(AlreadyOwned, match="PostgreSQL"), FileOwner(database):
            raise AssertionError("two processes own one file")
        with FileOwner(tmp_path / "other.sqlite3"):
            pass


def test_a_second_owner_is_refused_by_whatever_path_he_comes(tmp_path: Path) -> None:
    database, link = tmp_path / "books.sqlite3", tmp_path / "link.sqlite3"
    link.symlink_to(database)
    (tmp_path / "there").symlink_to(tmp_path)
    with FileOwner(database):
        for other in (link, tmp_path / "there" / "books.sqlite3"):
            with pytest.raises(AlreadyOwned), FileOwner(other):
                raise AssertionError("two processes own one file")


def test_a_file_can_be_owned_again_when_its_owner_is_gone(tmp_path: Path) -> None:
    database = tmp_path / "books.sqlite3"
    with pytest.raises(LookupError), FileOwner(database):
        raise LookupError("the owner dies")
    with FileOwner(database):
        pass
