"""What was tampered with since a checkpoint is found by a round, as by the audit of all."""

import pytest
from tests.alarms import FROM_THE_FIRST, found_since
from tests.ledger.bookings import run
from tests.ledger.controls import CONTROLS
from tests.ledger.tampering import tampered
from tests.ledger.test_audit import live_a_little

from tallystick.credits.audit import audit_credits
from tallystick.kernel.db import Database
from tallystick.ledger.audit import audit_ledger
from tallystick.workers.books import audit_recent

# No index leads to what would show these; most of such tampering breaks others, too.
_ONLY_WHOLE = {
    "I5 what customers owe is what was booked on it",
    "I5 a lot's remainder is what was booked on it less what is held",
    "I14 what holds took is counted in their limits",
}
_UNSEEN = {
    "I5 what customers owe is what was booked on it",
    "I14 what holds took is counted in their limits",
}


async def test_a_guard_that_is_gone_is_found_by_the_next_round(
    unaudited_db: Database,
) -> None:
    gone = {
        True: "DROP TRIGGER transfer_refuses_update",
        False: "ALTER TABLE transfer DISABLE TRIGGER transfer_append_only",
    }
    await run(unaudited_db, gone[unaudited_db.is_sqlite])
    (found,) = await found_since(unaudited_db)
    assert found.invariant == "I2 the guards of the journal are in place"


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_a_right_that_was_granted_is_found_by_the_next_round(
    unaudited_db: Database,
) -> None:
    await run(unaudited_db, "GRANT UPDATE ON transfer TO PUBLIC")
    (found,) = await found_since(unaudited_db)
    assert found.invariant == "I2 nobody has the right to change what is posted"


@pytest.mark.parametrize("invariant", CONTROLS)
async def test_what_was_tampered_with_lately_is_found_by_the_next_round(
    unaudited_db: Database, invariant: str
) -> None:
    await live_a_little(unaudited_db)
    assert await found_since(unaudited_db) == []
    async with tampered(unaudited_db, CONTROLS[invariant]) as session:
        every = [*await audit_ledger(session), *await audit_credits(session)]
        found = (await audit_recent(session, FROM_THE_FIRST)).findings
    assert invariant in {one.invariant for one in every}
    named = {one.invariant for one in found}
    if invariant not in _ONLY_WHOLE:
        assert invariant in named
    elif invariant not in _UNSEEN:
        assert any(one.startswith("I3 ") for one in named), named
