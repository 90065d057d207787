"""``tallystick export``, as an operator runs it."""

import csv
import json
import os
import pty
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tallystick.customers.wallets import ensure_customer_of_wallet
from tallystick.kernel.db import Database
from tallystick.kernel.ids import encode_id
from tests.ledger.bookings import book, buy, charge, give
from tests.processes import Ended, Program, run
from tests.test_cli import all_of, require_refusal

WALLET = bytes.fromhex("ab" * 20)
ADDRESS = f"0x{WALLET.hex()}"


@pytest.fixture
async def owner(db: Database) -> int:
    """A customer with three lines, beside somebody else with one."""
    owner = await db.write(lambda session: ensure_customer_of_wallet(session, WALLET))
    await buy(db, 5_000_000, 50_000_000, owner)
    await give(db, 1_000_001, owner)
    await book(db, charge(250_000, "a", owner))
    await give(db, 9_000_000)
    return owner


@pytest.fixture
def settings(database_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url}


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


async def test_a_statement_and_the_journal_are_written_for_people_and_programs(
    owner: int, settings: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "journal.jsonl"

    async def export(*arguments: str) -> Ended:
        ended = await run("export", *arguments, cwd=tmp_path, **settings)
        assert (ended.code, ended.err) == (0, ""), ended.said
        return ended

    by_id, by_wallet, to_file, late, early = await all_of(
        export("statement", encode_id("cus", owner)),
        export("statement", ADDRESS, "--format", "jsonl"),
        export("journal", "--format", "jsonl", "--out", str(out)),
        export("journal", "--from", "2999-01-01"),
        export("statement", ADDRESS, "--from", "2025-01-01", "--to", "2025-02-01"),
    )
    lines = rows_of(by_id.out)
    shown = [(one["type"], one["credits"], one["balance_after"]) for one in lines]
    assert shown == [
        ("topup", "50", "50"),
        ("grant", "1.000001", "51.000001"),
        ("charge", "-0.25", "50.750001"),
    ]
    assert all(one["posted_at"].endswith("Z") for one in lines)
    objects = [json.loads(line) for line in by_wallet.out.splitlines()]
    assert [one["id"] for one in objects] == [one["id"] for one in lines]
    assert '"balance_after":50.750001' in by_wallet.out

    assert to_file.out == f"5 lines are in {out}.\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    booked = [json.loads(line) for line in out.read_text().splitlines()]
    assert {one["transaction"] for one in booked} >= {one["id"] for one in lines}
    code = f"liabilities:customer:{encode_id('cus', owner)}:credits"
    assert _as_told(booked[0]) == (5, "USDC", "equity:exchange:USDC", "topup", "bought")
    assert _as_told(booked[1]) == (50, "CREDIT", code, "topup", "bought")
    assert booked[3]["debit"] == code
    assert rows_of(late.out) == rows_of(early.out) == []
    assert late.out.startswith("transaction,position,type,")


def _as_told(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        row[name] for name in ("amount", "asset", "credit", "type", "reference")
    )


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_cannot_be_exported_is_told_and_leaves_nothing(
    owner: int, settings: dict[str, str], tmp_path: Path
) -> None:
    taken = tmp_path / "taken.csv"
    taken.write_text("mine")
    nowhere = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/none.sqlite3"}

    async def export(*arguments: str, **more: str) -> Ended:
        return await run("export", *arguments, cwd=tmp_path, **settings | more)

    refused = [
        (("statement", "0x" + "cd" * 20), "POST /api/credits/add"),
        (("statement", "cus_0000000000001"), "is no customer yet"),
        (("statement", "alice"), "Send the identifier"),
        (("statement", ADDRESS, "--out", str(taken)), "Name another file"),
        (
            ("journal", "--out", str(tmp_path / "no" / "file")),
            "in a folder that exists",
        ),
        (
            ("journal", "--from", "2026-02-01", "--to", "2026-01-01"),
            "later than `from`",
        ),
        (("journal", "--from", "yesterday"), "2026-11-01"),
        (("journal", "--format", "xlsx"), "jsonl"),
    ]
    ended = await all_of(
        *(export(*arguments) for arguments, _ in refused),
        export("journal", **nowhere),
    )
    for one, (_, word) in zip(ended, refused, strict=False):
        require_refusal(one, word)
    require_refusal(ended[-1], "run `tallystick migrate` first")
    assert taken.read_text() == "mine"
    names = names_in(tmp_path)
    assert {name for name in names if name.endswith((".csv", ".part"))} == {"taken.csv"}
    assert "none.sqlite3" not in names


def names_in(folder: Path) -> set[str]:
    return {one.name for one in folder.iterdir()}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_progress_is_for_terminals_and_never_among_the_lines(
    owner: int, settings: dict[str, str], tmp_path: Path
) -> None:
    """With both outputs on one terminal a bar would run through the lines."""
    arguments = ("export", "statement", ADDRESS)
    with terminal() as (name, shown):
        apart = Program(arguments, settings, tmp_path, {"err": name})
        ended = await apart.end()
        bar = shown()
    assert [row["type"] for row in rows_of(ended.out)] == ["topup", "grant", "charge"]
    assert "3/3" in bar
    with terminal() as (name, shown):
        together = Program(arguments, settings, tmp_path, {"out": name, "err": name})
        assert (await together.end()).code == ended.code == 0
        lines = shown()
    assert "\x1b" not in lines
    assert rows_of(lines) == rows_of(ended.out)


@contextmanager
def terminal() -> Iterator[tuple[str, Callable[[], str]]]:
    """A terminal's name, and what it has shown."""
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    try:
        yield os.ttyname(theirs), lambda: _all_of(ours)
    finally:
        os.close(ours)
        os.close(theirs)


def _all_of(number: int) -> str:
    found = b""
    with suppress(BlockingIOError):
        while piece := os.read(number, 4096):
            found += piece
    return found.decode()
