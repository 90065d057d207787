"""Power cuts take nothing that was acknowledged, and would, were less synced."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from soak.disk import Disk, Files, read_files
from soak.recorder import (
    Create,
    Delete,
    Operation,
    Recorder,
    Sync,
    Truncate,
    Write,
)

from tests.soak.campaigns import soak


@pytest.mark.timeout(300)
def test_a_power_cut_takes_nothing_that_was_acknowledged() -> None:
    code, verdict, _ = soak("powercut", "--seconds", "1", "--seed", "7")
    assert (code, verdict["ok"]) == (0, True), verdict
    assert verdict["seed"] == 7
    assert verdict["cuts"] >= 10
    assert verdict["judged"] >= 20
    assert verdict["spoilt"] >= 10
    for name in ("lost", "double", "unbalanced", "corrupt"):
        assert verdict[name] == 0


@pytest.mark.timeout(300)
def test_with_less_synced_power_cuts_lose_what_was_acknowledged() -> None:
    """Else the campaign would prove nothing."""
    code, verdict, _ = soak("powercut", "--seconds", "1", "--seed", "8", "--sabotage")
    assert (code, verdict["ok"]) == (1, False)
    assert verdict["lost"] > 0


def _after_cuts(files: Files, *operations: Operation) -> set[bytes | None]:
    """What may be left of the file ``a``."""
    disk = Disk(files)
    disk.do(operations)
    return {disk.cut(random.Random(seed)).files.get("a") for seed in range(300)}


def _write(byte: bytes, *, offset: int = 0, size: int = 1024) -> Write:
    return Write("a", offset, byte * size)


def test_what_was_synced_is_whole_after_every_cut() -> None:
    left = _after_cuts({"a": b"0"}, _write(b"1"), Truncate("a", 1023), Sync("a"))
    assert left == {b"1" * 1023}


def test_what_was_not_synced_may_be_kept_lost_or_torn() -> None:
    left = _after_cuts({"a": b"0" * 1024}, _write(b"1"))
    halves = [b"0" * 512, b"1" * 512]
    assert {one + other for one in halves for other in halves} <= left
    assert all(one is not None and len(one) == 1024 for one in left)


def test_a_later_write_may_be_kept_without_the_earlier_one() -> None:
    left = _after_cuts({"a": b""}, _write(b"1"), _write(b"2", offset=1024))
    assert bytes(1024) + b"2" * 1024 in left


def test_bytes_beside_a_write_stay() -> None:
    left = _after_cuts({"a": b"0" * 100}, Write("a", 40, b"1" * 20))
    assert all(one and one[:40] == one[60:] == b"0" * 40 for one in left)


@pytest.mark.parametrize(
    ("operations", "left"),
    [
        ([Delete("a", is_durable=False)], {b"0", None}),
        ([Delete("a", is_durable=True)], {None}),
        ([Delete("a", is_durable=True), Create("a")], {b"", None}),
        ([Delete("a", is_durable=False), Create("a")], {b"0", b"", None}),
        ([Delete("a", is_durable=False), Create("a"), Sync("a")], {b""}),
    ],
)
def test_a_name_is_durable_when_its_folder_was_synced(
    operations: list[Operation], left: set[bytes | None]
) -> None:
    assert _after_cuts({"a": b"0"}, *operations) == left


def _play(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE word (word TEXT)")
        for number in range(50):
            connection.execute("INSERT INTO word VALUES (?)", (str(number) * 200,))


def test_the_record_tells_all_that_became_of_the_files(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    with recorder.recording() as operations:
        _play(tmp_path / "a")
    disk = Disk({})
    disk.do([*operations, *(Sync(one.name) for one in operations)])
    assert disk.cut(random.Random(1)).files == read_files(tmp_path)
    assert len(recorder.operations) > 100


def test_every_commit_is_synced_unless_that_is_weakened(tmp_path: Path) -> None:
    counts = []
    for weaken in (False, True):
        recorder = Recorder(tmp_path, weaken=weaken)
        with recorder.recording() as operations:
            _play(tmp_path / f"{weaken}")
        counts.append(operations.count(Sync(f"{weaken}-wal")))
    full, weakened = counts
    assert full > 50
    assert weakened < 10


def test_only_its_own_folder_is_recorded(tmp_path: Path) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    for one in (here, elsewhere):
        one.mkdir()
    recorder = Recorder(here)
    with recorder.recording():
        _play(elsewhere / "a")
    _play(here / "a")
    assert recorder.operations == []
