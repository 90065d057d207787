"""The parts of the books that a round looks at are parts of the same tables and views."""

from dataclasses import replace

import pytest
from tests.credits.calls import capture, hold, set_limit
from tests.ledger.bookings import ALICE, BOB, book, charge, give, give_lot
from tests.ledger.sealed import ids_of
from tests.ledger.test_audit import live_a_little

from tallystick.credits import recent
from tallystick.credits.limits import LimitTake
from tallystick.credits.models import LimitPeriod
from tallystick.credits.recent import credits_scope, holds_after, new_holds
from tallystick.kernel.db import Database, ReadSession, query
from tallystick.ledger.digests import HIGHEST, LOWEST
from tallystick.ledger.findings import Checks
from tallystick.ledger.recent import New, ledger_scope, touched_by
from tallystick.ledger.scope import EVERYTHING, Scope, as_list
from tallystick.metering.recent import metering_scope


async def _scope(session: ReadSession, new: New) -> Scope:
    dialect = session.get_bind().dialect.name
    holds = await new_holds(session, new)
    accounts = await touched_by(session, new) | holds.accounts
    scope = ledger_scope(dialect, new, accounts)
    return metering_scope(credits_scope(scope, dialect, new, holds), dialect)


async def _rows(session: ReadSession, scope: Scope, named: str) -> list[str]:
    sql = scope.within(f"SELECT * FROM {{{named}}}")
    rows = await query(session, sql, **scope.values)
    return sorted(str(sorted(row.items())) for row in rows)


_SAME = (
    "transfer",
    "ledger_transaction",
    "entry",
    "history",
    "ledger_account",
    "account_balance",
    "lot",
    "lot_entry",
    "reversed",
    "hold",
    "hold_draw",
    "hold_limit",
    "credit_grant",
    "receivable",
    "usage_event",
)


@pytest.fixture
async def lively(db: Database) -> Database:
    """Books with a charge that took from two lots, and a limit with a hold."""
    await live_a_little(db)
    await give(db, 5, BOB)
    await book(db, charge(7, "of two lots", BOB))
    await capture(db, await hold(db, 2, BOB), 1)
    return db


async def test_of_all_that_is_new_each_part_is_the_whole(lively: Database) -> None:
    async with lively.read() as session:
        new = New(
            tuple(await ids_of(lively)),
            tuple(await holds_after(session, LOWEST, most=99)),
            after=LOWEST,
            upto=HIGHEST,
        )
        scope = await _scope(session, new)
        for named in _SAME:
            part = await _rows(session, scope, named)
            assert part == await _rows(session, EVERYTHING, named), named
            assert part or named == "usage_event"
        drawn = await query(session, "SELECT 1 FROM transfer WHERE lots IS NOT NULL")
    assert drawn, "a line that took from several lots is among them"


async def test_the_newest_line_tells_what_all_lines_add_up_to(lively: Database) -> None:
    sums = "SELECT booked.ledger_account_id, SUM(amount) AS amount, SUM(lines) AS lines"
    asked = sums + " FROM {booked} JOIN account_balance ON"
    asked += " account_balance.ledger_account_id = booked.ledger_account_id"
    asked += " GROUP BY booked.ledger_account_id ORDER BY 1"
    async with lively.read() as session:
        scope = await _scope(session, New(after=LOWEST, upto=HIGHEST))
        told = [
            [tuple(map(int, row.values())) for row in rows]
            for rows in (
                await query(session, scope.within(asked), **scope.values),
                await query(session, EVERYTHING.within(asked)),
            )
        ]
    assert told[0] == told[1]
    assert len(told[0]) == 3


async def test_one_transaction_brings_its_accounts_and_no_others(
    db: Database,
) -> None:
    await live_a_little(db)
    (last,) = (await ids_of(db))[-1:]
    async with db.read() as session:
        new = New((last,), after=HIGHEST, upto=HIGHEST)
        scope = await _scope(session, new)
        sides = await query(
            session,
            "SELECT debit_account_id, credit_account_id FROM transfer"
            " WHERE ledger_transaction_id = :last",
            last=last,
        )
        accounts = {one for row in sides for one in row.values()}
        assert await touched_by(session, new) == accounts
        assert len(await _rows(session, scope, "ledger_transaction")) == 1
        assert len(await _rows(session, scope, "transfer")) == len(sides)
        assert len(await _rows(session, scope, "entry")) == 2 * len(sides)
        balances = await _rows(session, scope, "account_balance")
        assert len(balances) < len(accounts), "the house has none"
        assert await _rows(session, scope, "credit_grant") == []


async def test_what_was_made_meanwhile_belongs_to_it_without_a_transaction(
    db: Database,
) -> None:
    await give(db, 50)
    async with db.read() as session:
        ((grant,),) = [
            [row["id"] for row in await query(session, "SELECT id FROM credit_grant")]
        ]
        for after, upto, count in ((grant - 1, grant, 1), (grant, HIGHEST, 0)):
            scope = await _scope(session, New(after=after, upto=upto))
            assert len(await _rows(session, scope, "credit_grant")) == count
        every = await touched_by(session, New(after=LOWEST, upto=HIGHEST))
        rows = await query(session, "SELECT id FROM ledger_account")
        assert every == {row["id"] for row in rows}
        assert await touched_by(session, New(accounts=(7,))) == {7}


async def test_a_captured_hold_comes_with_its_charge_and_its_customer(
    db: Database,
) -> None:
    await give(db, 50)
    limit = await set_limit(db, 9, LimitPeriod.MONTH)
    held = [
        await hold(db, 2, limits=[LimitTake(limit, 2, in_credits=True)])
        for _ in range(3)
    ]
    await capture(db, held[1])
    await give_lot(db, 9, BOB)
    async with db.read() as session:
        charges = await query(
            session, "SELECT id FROM ledger_transaction WHERE kind = 'charge'"
        )
        (charged,) = [row["id"] for row in charges]
        named = await new_holds(session, New(holds=(held[1], held[2])))
        behind = await new_holds(session, New((charged,)))
        (alice,) = await query(
            session, f"SELECT id FROM ledger_account WHERE customer_id = {ALICE}"
        )
        later = await holds_after(session, held[0], most=1)
        scope = await _scope(session, New(holds=(held[2],)))
        assert len(await _rows(session, scope, "hold:open")) == 2, "of his account"
        assert len(await _rows(session, scope, "hold")) == 1
        assert len(await _rows(session, scope, "spend_limit")) == 1
        scope = await _scope(session, New(after=HIGHEST, upto=HIGHEST))
        assert await _rows(session, scope, "spend_limit") == []
    assert later == [held[1]]
    assert named.ids == {held[1], held[2]}
    assert behind.ids == {held[1]}
    assert named.charges == behind.charges == {charged}
    assert named.accounts == behind.accounts == {alice["id"]}


@pytest.mark.parametrize("at_once", [1, 2, 3, 4])
async def test_however_many_were_captured_all_charges_are_found(
    db: Database, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(recent, "_KEYS_AT_ONCE", at_once)
    await give(db, 50)
    held = [await hold(db, 2) for _ in range(4)]
    for one in held[:3]:
        await capture(db, one)
    async with db.read() as session:
        found = await new_holds(session, New(holds=tuple(held)))
        charges = await query(
            session, "SELECT id FROM ledger_transaction WHERE kind = 'charge'"
        )
    assert found.charges == {row["id"] for row in charges}
    assert len(found.charges) == 3


async def test_the_charge_of_a_feature_called_hold_is_no_capture(db: Database) -> None:
    await give(db, 50)
    posted = await book(db, replace(charge(3, "another"), reference="hold:7"))
    async with db.read() as session:
        found = await new_holds(session, New((posted.ledger_transaction_id,)))
    assert (found.ids, found.charges, found.accounts) == (set(), set(), set())


def test_lists_of_ids_are_what_each_database_takes() -> None:
    assert as_list("sqlite", [3, 1, 3]) == "[1, 3]"
    assert as_list("postgresql", [3, 1, 3]) == [1, 3]


def test_a_part_has_no_table_by_chance() -> None:
    part = Scope({"hold": "(SELECT 1) AS hold", "lot:opened": "lot"}, {"one": 1})
    assert part.within("FROM {hold}, {lot:opened}") == "FROM (SELECT 1) AS hold, lot"
    assert EVERYTHING.within("FROM {hold}, {lot:opened}") == "FROM hold, lot"
    for missing in ("{lot}", "{hold:open}"):
        with pytest.raises(KeyError):
            part.within(missing)
    asked = {"cheap": "{hold}", "dear": "{hold}"}
    assert part.checks(asked, only_whole=["dear"]) == Checks(
        {"cheap": "(SELECT 1) AS hold"}, {"one": 1}
    )
    assert list(EVERYTHING.checks(asked, only_whole=["dear"]).queries) == [*asked]
    more = part.with_parts({"lot": "x"}, {"two": 2})
    assert (more.within("{lot}{hold}"), more.values) == (
        "x(SELECT 1) AS hold",
        {"one": 1, "two": 2},
    )
    assert not more.is_whole
