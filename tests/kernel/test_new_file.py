"""A file is whole or not there, and never in the place of another."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tallystick.kernel.new_file import FileExists, NewFile, UnwritableFile


def names(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    with NewFile(tmp_path / "a") as file:
        file.raw.write(b"half")
        assert "a" not in names(tmp_path)
        file.raw.write(b" and half")
    assert (tmp_path / "a").read_bytes() == b"half and half"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    assert names(tmp_path) == {"a"}


def break_off(path: Path) -> None:
    with NewFile(path) as file:
        file.raw.write(b"half")
        raise KeyboardInterrupt


def test_what_broke_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        break_off(tmp_path / "a")
    assert names(tmp_path) == set()


def write(
    path: Path, text: bytes, meanwhile: Callable[[], None] = lambda: None
) -> None:
    with NewFile(path) as file:
        file.raw.write(text)
        meanwhile()


def test_no_file_is_overwritten_not_even_one_that_came_meanwhile(
    tmp_path: Path,
) -> None:
    file = tmp_path / "a"
    with pytest.raises(FileExists):
        write(file, b"mine", lambda: write(file, b"theirs"))
    with pytest.raises(FileExists):
        write(file, b"mine")
    assert file.read_bytes() == b"theirs"
    assert names(tmp_path) == {"a"}


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFile):
        write(tmp_path / "none" / "a", b"")
