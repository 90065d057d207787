"""``powercut``: the power goes while the server writes to SQLite, hundreds of times.

Real: the server with all its loops and its door, SQLAlchemy, Python's SQLite with the
server's own settings, and afterwards the recovery and the audit of what was left.
Simulated: the disk. What SQLite asks of it is recorded, with what clients were told at
which moment; then the power is cut at random moments of that record, and of what was
not synced anything may be lost or torn (``soak.disk``). The next round goes on with the
books that the last cut left, so that recoveries are cut, too.

With ``--sabotage`` the books are written with ``synchronous = NORMAL``, as if somebody
wanted them faster. Threads take turns as they like, so a seed does not bring back the
same moments; the files of a bad cut are kept instead.
"""

import asyncio
import json
import random
import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eth_account import Account
from sqlalchemy.exc import DBAPIError
from tests.live import make_settings, start_server

from soak import places
from soak.disk import Disk, Files, read_files, write_files
from soak.judge import judge
from soak.load import Load, make_customers, working
from soak.plan import Plan
from soak.recorder import Operation, Recorder, Sync
from tallystick.chain.local import LocalChain
from tallystick.demo.ports import free_port
from tallystick.kernel.db import open_database

_BOOKS = "books.sqlite3"
_WORKERS = 16
_SECONDS = 3
_CUTS = 12
# Books grow, and so does the time that their audit takes.
_ROUNDS_ON_ONE_BOOKS = 4

Event = dict[str, Any]


@dataclass
class _Notes:
    """What clients were told, and how many operations the disk had done by then."""

    operations: Sequence[Operation] = ()
    events: list[tuple[int, Event]] = field(default_factory=list)

    def note(self, **event: Any) -> None:
        self.events.append((len(self.operations), event))

    def until(self, moment: int) -> list[Event]:
        """What had been said when so many operations were done."""
        return [event for when, event in self.events if when <= moment]


@dataclass
class _Books:
    """Files, and what was told about them so far."""

    keys: dict[str, str]
    settings: dict[str, str]
    files: Files
    told: list[Event]
    rounds: int = 0


@dataclass
class Verdict:
    """``judged``: acknowledgements, once for each cut that came after them.

    ``lost``, ``double`` and ``unbalanced`` are the judge's; ``corrupt`` are cuts after
    which SQLite or the server could not read the books. ``spoilt``: operations that
    cuts lost or tore.
    """

    rounds: int = 0
    cuts: int = 0
    acknowledged: int = 0
    judged: int = 0
    operations: int = 0
    checkpoints: int = 0
    spoilt: int = 0
    lost: int = 0
    double: int = 0
    unbalanced: int = 0
    corrupt: int = 0
    kept: list[str] = field(default_factory=list)

    @property
    def is_bad(self) -> bool:
        return bool(self.lost or self.double or self.unbalanced or self.corrupt)

    @property
    def ok(self) -> bool:
        """Cuts that nobody was told anything before prove nothing."""
        return not self.is_bad and self.judged > 0 and self.spoilt > 0


def run(plan: Plan) -> dict[str, Any]:
    """The verdict over all cuts."""
    # The server writes its log to stdout, where the verdict alone belongs.
    with redirect_stdout(sys.stderr):
        verdict = asyncio.run(_run(plan))
    return {"ok": verdict.ok, "seed": plan.seed, **asdict(verdict)}


async def _run(plan: Plan) -> Verdict:
    chance, verdict, books = random.Random(plan.seed), Verdict(), None
    end = time.monotonic() + plan.seconds
    with places.folder() as folder:
        async with LocalChain() as chain:
            while not verdict.is_bad and (not verdict.rounds or time.monotonic() < end):
                round_ = folder / f"round-{verdict.rounds}"
                round_.mkdir()
                if books is None or books.rounds == _ROUNDS_ON_ONE_BOOKS:
                    books = await _new_books(chain)
                books = await _Round(plan, chance, chain, round_, verdict).play(books)
                plan.tell(f"{verdict.cuts} cuts, {verdict.acknowledged} acknowledged")
    return verdict


def _url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder}/{_BOOKS}"


async def _new_books(chain: LocalChain) -> _Books:
    """Some customers with credits, before any power is cut."""
    with places.folder() as folder:
        notes, secret = _Notes(), secrets.token_urlsafe(48)
        named = {"DATABASE_URL": _url(folder), "SECRET_KEY": secret}
        keys = await make_customers(named, notes)
        files = read_files(folder)
    same = {"secret_key": secret, "pay_to": Account.create().address}
    return _Books(keys, same, files, notes.until(0))


@dataclass
class _Round:
    """Some seconds of deductions, and cuts in them."""

    plan: Plan
    chance: random.Random
    chain: LocalChain
    folder: Path
    verdict: Verdict

    async def play(self, books: _Books) -> _Books:
        """Returns what one of the cuts left."""
        recorder, notes = await self._record(books)
        disk, done = Disk(books.files), 0
        for moment in self._moments(recorder.operations):
            disk.do(recorder.operations[done:moment])
            done = moment
            cut = disk.cut(self.chance)
            self.verdict.cuts += 1
            self.verdict.spoilt += cut.spoilt
            told = books.told + notes.until(moment)
            await self._judge(cut.files, told)
        self.verdict.rounds += 1
        self.verdict.operations += len(recorder.operations)
        self.verdict.checkpoints += recorder.operations.count(Sync(_BOOKS))
        self.verdict.acknowledged += _acknowledged(event for _, event in notes.events)
        return _Books(books.keys, books.settings, cut.files, told, books.rounds + 1)

    def _moments(self, operations: Sequence[Operation]) -> list[int]:
        """Half of them while a checkpoint writes to the books themselves, if any does.

        A moment is the number of operations that were done; it may be all of them.
        """
        anywhere = range(len(operations) + 1)
        books = [number for number, one in enumerate(operations) if one.name == _BOOKS]
        half = _CUTS // 2
        some = self.chance.choices(anywhere, k=half)
        return sorted(some + self.chance.choices(books or anywhere, k=_CUTS - half))

    async def _record(self, books: _Books) -> tuple[Recorder, _Notes]:
        place = self.folder / "recorded"
        write_files(place, books.files)
        recorder = Recorder(place, weaken=self.plan.sabotage)
        notes = _Notes(recorder.operations)
        with recorder.recording():
            await self._serve(place, books, notes)
        # The last connection removes the log. One that closed later would call the
        # recorder's functions when they are gone.
        assert not (place / f"{_BOOKS}-wal").exists(), "a connection is still open"
        return recorder, notes

    async def _serve(self, place: Path, books: _Books, notes: _Notes) -> None:
        url, chain = _url(place), self.chain.url
        settings = make_settings(url, chain, free_port(), **books.settings)
        server = await start_server(settings)
        try:
            load = Load(books.keys, server.url, notes, self.chance)
            async with working(load, _WORKERS):
                await asyncio.sleep(_SECONDS)
        finally:
            await server.stop()

    async def _judge(self, files: Files, told: list[Event]) -> None:
        place = self.folder / f"cut-{self.verdict.cuts}"
        write_files(place, files)
        events = place / "acknowledgements.jsonl"
        events.write_text("".join(json.dumps(one) + "\n" for one in told))
        self.verdict.judged += _acknowledged(told)
        try:
            await self._compare(place, events)
        except (DBAPIError, sqlite3.DatabaseError) as error:
            self.plan.tell(str(error).partition("\n")[0])
            self.verdict.corrupt += 1
        if self.verdict.is_bad and not self.plan.sabotage and not self.verdict.kept:
            self.verdict.kept.append(_keep(files, events))

    async def _compare(self, place: Path, events: Path) -> None:
        """As the server would find the books when the power is back."""
        db = open_database(_url(place))
        try:
            found = await judge(events, db)
        finally:
            await db.close()
        self.verdict.lost += found.lost
        self.verdict.double += found.double
        self.verdict.unbalanced += found.unbalanced
        self.verdict.corrupt += not _is_whole(place / _BOOKS)


def _acknowledged(events: Any) -> int:
    return sum("told" in event for event in events)


def _is_whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        (whole,) = connection.execute("PRAGMA integrity_check").fetchone()
        strays = connection.execute("PRAGMA foreign_key_check").fetchall()
    return whole == "ok" and not strays


def _keep(files: Files, events: Path) -> str:
    """Where the files of a bad cut are, for whoever looks into it."""
    place = Path(tempfile.mkdtemp(prefix="tallystick-powercut-")) / "left"
    write_files(place, files)
    (place / events.name).write_bytes(events.read_bytes())
    return str(place)
