"""The journal against its seals: the first row that is not as it was sealed.

Two passes in little memory. Up the seals by their numbers: each continues the one
before. Down the transactions from the newest, beside the seals in the order of the last
transaction of each. Books without a seal cost one query.

Neither is stopped by what it meets: a transaction that cannot be read was changed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import RowMapping

from tallystick.kernel.db import ReadSession, WriteSession, now_ms, query
from tallystick.kernel.ids import encode_id, first_id_at, made_at_ms
from tallystick.ledger.digests import HIGHEST, LOWEST, PostedRows, posted_down
from tallystick.ledger.findings import Finding, unstopped
from tallystick.ledger.links import BEFORE_THE_FIRST, FORMATS, Head, Link, unpacked
from tallystick.ledger.sealing import REACH_MS, SealedUpTo, sealed_up_to

_CHAINED = "I15 each seal continues the one before"
_UNCHANGED = "I15 what was sealed is there and unchanged"
_SEALED = "I15 what is old enough was sealed"
_NOTED = "I15 a seal that was noted is in the chain"
INVARIANTS = (_CHAINED, _UNCHANGED, _SEALED, _NOTED)

_SEALS_AT_ONCE = 50
_AT_ONCE = 1_000
_COLUMNS = """
    SELECT number, first_id, last_id, sealed_at_ms, previous, digest,
           transaction_ids, digests, COALESCE(format, 1) AS format
      FROM journal_seal"""
_UP = f"{_COLUMNS} WHERE number > :number ORDER BY number LIMIT :limit"
_ONE = "SELECT digest FROM journal_seal WHERE number = :number"
_DOWN = f"{_COLUMNS} WHERE last_id < :last_id ORDER BY last_id DESC LIMIT :limit"
_REACHING = """
    SELECT number, transaction_ids FROM journal_seal
     WHERE last_id >= :first_id AND first_id <= :last_id AND number < :number
     ORDER BY number"""
_IDS = """
    SELECT id FROM ledger_transaction
     WHERE id >= :first AND id <= :last ORDER BY id DESC LIMIT :limit"""


async def audit_seals(session: ReadSession | WriteSession) -> list[Finding]:
    """What is wrong with the seals, and with what they seal; of each kind the first.

    A transaction without a seal is wrong when no sealer will look so far back again.
    """
    chain = _Chain()
    flaws = await unstopped(session, _CHAINED, partial(_audit_chain, session, chain))
    if chain.is_empty:
        return flaws
    if chain.flaw:
        flaws.append(Finding(_CHAINED, chain.flaw))
    journal = _Journal(chain.changed, _oldest_due(session, chain.last_id))

    async def walk_down() -> list[Finding]:
        await journal.walk_down(session)
        return []

    stopped = await unstopped(session, _UNCHANGED, walk_down)
    told = [Finding(name, words) for name, (_, words) in journal.flaws.items()]
    return [*flaws, *stopped, *told]


@dataclass(frozen=True, slots=True)
class NewSeals:
    """What is wrong with the seals since one, and what they seal.

    ``head`` is the last that was read; when it is the ``end``, there are no more.
    """

    findings: list[Finding]
    head: Head
    end: Head
    last_id: int
    transactions: tuple[int, ...]


async def audit_new_seals(
    session: ReadSession | WriteSession, since: Head, last_id: int, *, most: int
) -> NewSeals:
    """As ``audit_seals``, of at most so many seals after that one, which was noted.

    ``last_id`` is the newest transaction sealed until then. Costs what the seals hold.
    """
    chain, journal = _Chain(), _Journal(set(), LOWEST)
    head = end = since
    ids: list[int] = []

    async def look() -> list[Finding]:
        nonlocal head, end
        made = await sealed_up_to(session)
        end = made.head
        rows = await query(session, _UP, number=since.number, limit=most)
        for row in rows:
            head = chain.climb(row, head)
            if row["number"] not in chain.changed:
                ids.extend(await journal.read_seal(session, row))
        if not rows or head.number == end.number:
            chain.count(min(head.number, end.number), made.counted)
        return []

    noted = [since] if since.number else []
    findings = await audit_noted(session, noted)
    findings += await unstopped(session, _CHAINED, look)
    if chain.flaw:
        findings.append(Finding(_CHAINED, chain.flaw))
    findings += [Finding(name, words) for name, (_, words) in journal.flaws.items()]
    return NewSeals(findings, head, end, max([last_id, *ids]), tuple(sorted(ids)))


async def audit_noted(
    session: ReadSession | WriteSession, noted: Iterable[Head]
) -> list[Finding]:
    """What the chain has not kept of the ends that it had when they were noted."""
    findings = []
    for one in noted:
        rows = await query(session, _ONE, number=one.number)
        if not rows:
            findings.append(Finding(_NOTED, f"seal {one.number} is not there"))
        elif rows[0]["digest"] != one.digest:
            words = f"seal {one.number} is another than the one that was noted"
            findings.append(Finding(_NOTED, words))
    return findings


def _oldest_due(session: ReadSession | WriteSession, last_id: int | None) -> int:
    """Younger ones may still be sealed: the sealer looks back as far as this."""
    if last_id is None:
        return first_id_at(0)
    newest_ms = min(made_at_ms(last_id), now_ms(session))
    return first_id_at(newest_ms - REACH_MS)


@dataclass(slots=True)
class _Chain:
    """What was wrong first, and the numbers of seals that are not as they were made.

    ``last_id`` is the newest transaction that the last seal names.
    """

    flaw: str = ""
    changed: set[int] = field(default_factory=set)
    is_empty: bool = False
    last_id: int | None = None

    def blame(self, words: str) -> None:
        self.flaw = self.flaw or words

    def climb(self, row: RowMapping, head: Head) -> Head:
        """The next seal, which should continue that one."""
        number = row["number"]
        if number != head.number + 1:
            self.blame(f"seal {head.number + 1} was removed")
        if not _is_itself(row):
            self.blame(f"seal {number} was changed")
            self.changed.add(number)
        elif number == head.number + 1 and row["previous"] != head.digest:
            self.blame(
                f"seal {number} does not continue seal {head.number}: one of them was"
                " replaced"
            )
        return Head(number, row["digest"])

    def count(self, last: int, counted: int) -> None:
        """Blame it if it ends with another number than as many as were made."""
        if last != counted:
            self.blame(
                f"seal {min(last, counted) + 1} was"
                f" {'removed' if last < counted else 'added'}: {counted} were made"
            )


async def _audit_chain(
    session: ReadSession | WriteSession, chain: _Chain
) -> list[Finding]:
    end = await sealed_up_to(session)
    chain.is_empty = end.counted == end.head.number == 0
    chain.last_id = end.last_id
    if not chain.is_empty:
        await _walk_up(session, end, chain)
    return []


async def _walk_up(
    session: ReadSession | WriteSession, end: SealedUpTo, chain: _Chain
) -> None:
    head = BEFORE_THE_FIRST
    async for row in _seals(session, _UP, number=0):
        head = chain.climb(row, head)
    chain.count(head.number, end.counted)


async def _seals(
    session: ReadSession | WriteSession, sql: str, **start: int
) -> AsyncIterator[RowMapping]:
    more = True
    while more:
        rows = await query(session, sql, limit=_SEALS_AT_ONCE, **start)
        for row in rows:
            yield row
        if more := len(rows) == _SEALS_AT_ONCE:
            start = {name: rows[-1][name] for name in start}


def _link(row: RowMapping) -> Link:
    columns = ("number", "previous", "sealed_at_ms", "transaction_ids", "digests")
    return Link(*[row[name] for name in (*columns, "format")])


def _is_itself(row: RowMapping) -> bool:
    link = _link(row)
    if link.format not in FORMATS or link.digest() != row["digest"]:
        return False
    try:
        ids = list(link.sealed())
    except (ValueError, TypeError):
        return False
    return [ids[0], ids[-1]] == [row["first_id"], row["last_id"]]


@dataclass(frozen=True, slots=True)
class _Expected:
    """What the seal of that number has of a transaction; None if it was changed."""

    digest: bytes | None
    number: int
    format: int = 1

    def fits(self, posted: PostedRows) -> bool:
        return self.digest in {None, posted.digest(self.format)}


_Found = Mapping[int, PostedRows | None]


async def _page(
    session: ReadSession | WriteSession, last: int, first: int = LOWEST
) -> _Found:
    """The newest up to ``last``; None for one that cannot be read."""
    found: dict[int, PostedRows | None] = {}

    async def read_all() -> list[Finding]:
        found.update(await posted_down(session, first=first, last=last, most=_AT_ONCE))
        return []

    if not await unstopped(session, _UNCHANGED, read_all):
        return found
    for row in await query(session, _IDS, first=first, last=last, limit=_AT_ONCE):
        found[row["id"]] = await _alone(session, row["id"])
    return found


async def _alone(session: ReadSession | WriteSession, one: int) -> PostedRows | None:
    found: dict[int, PostedRows] = {}

    async def read() -> list[Finding]:
        found.update(await posted_down(session, first=one, last=one))
        return []

    await unstopped(session, _UNCHANGED, read)
    return found.get(one)


async def _sealed_before(
    session: ReadSession | WriteSession, row: RowMapping
) -> list[tuple[int, set[int]]]:
    """The numbers of earlier seals which reach into this one, and what they hold."""
    names = ("first_id", "last_id", "number")
    found = await query(session, _REACHING, **{one: row[one] for one in names})
    before = []
    for one in found:
        # A seal that cannot be read is told when its own turn comes.
        with contextlib.suppress(ValueError, TypeError):
            before.append((one["number"], set(unpacked(one["transaction_ids"]))))
    return before


@dataclass(slots=True)
class _Journal:
    """The way down, and what was found wrong on it.

    ``expected`` are the sealed transactions that were not reached yet. ``flaws`` has for
    an invariant the oldest transaction that breaks it, and how.
    """

    changed_seals: set[int]
    oldest_due: int
    expected: dict[int, "_Expected"] = field(default_factory=dict)
    flaws: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def walk_down(self, session: ReadSession | WriteSession) -> None:
        seals = _seals(session, _DOWN, last_id=HIGHEST)
        waiting, last = await anext(seals, None), HIGHEST
        while found := await _page(session, last):
            lowest = min(found)
            while waiting is not None and waiting["last_id"] >= lowest:
                self._expect(waiting)
                waiting = await anext(seals, None)
            # Hashing takes its time, and a server has others to serve.
            await asyncio.to_thread(self._compare, found)
            self._miss(lowest)
            last = lowest - 1
        # What is sealed besides is older than the oldest that is there.
        while waiting is not None:
            self._expect(waiting)
            self._miss(LOWEST)
            waiting = await anext(seals, None)
        self._miss(LOWEST)

    async def read_seal(
        self, session: ReadSession | WriteSession, row: RowMapping
    ) -> Iterable[int]:
        """Compare what one seal holds, and nothing else; its ids."""
        self._expect(row)
        sealed = tuple(self.expected)
        for number, ids in await _sealed_before(session, row):
            for one in ids.intersection(sealed):
                self._blame_again(one, number, row["number"])
        found = await _page(session, row["last_id"], row["first_id"])
        await asyncio.to_thread(self._compare, found)
        self._miss(LOWEST)
        return sealed

    def _expect(self, row: RowMapping) -> None:
        number = row["number"]
        if number not in self.changed_seals:
            for one, digest in _link(row).sealed().items():
                self._take(one, _Expected(digest, number, row["format"]))
            return
        # Its word is worth nothing; but what it lists shall not be blamed as well.
        with contextlib.suppress(ValueError, TypeError):
            for one in unpacked(row["transaction_ids"]):
                self.expected.setdefault(one, _Expected(None, number))

    def _take(self, one: int, wanted: "_Expected") -> None:
        before = self.expected.get(one)
        self.expected[one] = wanted
        if before is not None and before.digest is not None:
            # A forger adds seals, and the first word on a transaction is the one to keep.
            first, again = sorted((before, wanted), key=lambda seal: seal.number)
            self.expected[one] = first
            self._blame_again(one, first.number, again.number)

    def _blame_again(self, one: int, first: int, again: int) -> None:
        """No sealer seals what has a seal."""
        self._blame(_UNCHANGED, one, f"is in seal {first} and again in seal {again}")

    def _compare(self, found: _Found) -> None:
        for one, posted in found.items():
            sealed = self.expected.pop(one, None)
            if sealed is None and one < self.oldest_due:
                self._blame(_SEALED, one, "was slipped in: no seal has it")
            if posted is None:
                self._blame(_UNCHANGED, one, "cannot be read")
            elif sealed is not None and not sealed.fits(posted):
                self._blame(_UNCHANGED, one, f"was changed after seal {sealed.number}")

    def _miss(self, lowest: int) -> None:
        """What was sealed from ``lowest`` on and was not met is not there."""
        for one in [one for one in self.expected if one >= lowest]:
            sealed = self.expected.pop(one)
            if sealed.digest is not None:
                self._blame(_UNCHANGED, one, f"was removed after seal {sealed.number}")

    def _blame(self, invariant: str, transaction_id: int, how: str) -> None:
        if transaction_id < self.flaws.get(invariant, (HIGHEST,))[0]:
            named = f"transaction {encode_id('ltx', transaction_id)}"
            words = f"{named} (id {transaction_id}) {how}"
            self.flaws[invariant] = transaction_id, words
