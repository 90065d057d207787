"""The audit of the money core sees each way in which the books can be wrong."""

import pytest
from tests.credits.calls import capture, hold, release, set_limit
from tests.ledger import test_seals
from tests.ledger.bookings import (
    ALICE,
    BOB,
    audit,
    book,
    buy,
    charge,
    fresh_key,
    give,
    give_lot,
    run,
)
from tests.ledger.tampering import tamper

from tallystick.credits import audit as credits_audit
from tallystick.credits.debts import claw_back
from tallystick.credits.limits import LimitTake
from tallystick.credits.models import LimitPeriod
from tallystick.kernel.db import Database
from tallystick.kernel.money import CREDIT, Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger import audit as ledger_audit
from tallystick.ledger import chart
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer

CAROL = BOB + 1
_A_CHARGE = "(SELECT MIN(id) FROM ledger_transaction WHERE reference = 'x')"
_CONTROLS = {
    "I1 entries of a transaction sum to zero per asset": (
        "UPDATE ledger_account SET asset = 'USD' WHERE code = 'expense:promotions'"
    ),
    "I1 a transfer moves one asset": (
        "UPDATE ledger_account SET asset = 'USD' WHERE code = 'revenue:feature:x'"
    ),
    "I1 every transaction has transfers": (
        f"DELETE FROM transfer WHERE ledger_transaction_id = {_A_CHARGE}"
    ),
    "I2 every kind of transaction is known": (
        f"UPDATE ledger_transaction SET kind = 'gift' WHERE id = {_A_CHARGE}"
    ),
    "I5 what customers owe is what was booked on it": (
        "UPDATE receivable SET owed = owed - 1"
    ),
    "I5 nobody owes beside the receivables": "DELETE FROM receivable",
    "I3 every customer's account has a balance row": (
        "DELETE FROM account_balance WHERE ledger_account_id ="
        f" (SELECT id FROM ledger_account WHERE customer_id = {BOB})"
    ),
    "I3 balance equals the sum of entries, version their number": (
        "UPDATE account_balance SET balance = balance + 1"
    ),
    "I3 a customer's lines are numbered, the house's are not": (
        "UPDATE transfer SET debit_version = NULL, debit_balance_after = NULL"
        f" WHERE ledger_transaction_id = {_A_CHARGE}"
    ),
    "I3 each line continues from the line before": (
        "UPDATE transfer SET debit_balance_after = debit_balance_after + 1"
        f" WHERE ledger_transaction_id = {_A_CHARGE}"
    ),
    "I3 balance equals what remains in the lots plus what is held": (
        "UPDATE lot SET remaining = remaining - 1 WHERE bought"
    ),
    "I3 each line of a customer names its lots exactly": (
        f"UPDATE transfer SET lot_id = NULL WHERE ledger_transaction_id = {_A_CHARGE}"
    ),
    "I3 a lot was opened once, with its amount": (
        "UPDATE lot SET amount = amount + 1 WHERE bought"
    ),
    "I3 a lot has between nothing and its amount left": (
        "UPDATE lot SET is_open = NOT is_open WHERE bought"
    ),
    "I3 deferred is what remains in lots that count later": (
        "UPDATE account_balance SET deferred = deferred + 1"
    ),
    "I3 next_change_ms is when a lot begins to count or expires": (
        "UPDATE account_balance SET next_change_ms = next_change_ms + 1"
    ),
    "I3 a transfer stands between accounts, in a transaction": (
        f"UPDATE transfer SET credit_account_id = 7 WHERE ledger_transaction_id = {_A_CHARGE}"
    ),
    "I3 a balance row names its account's customer": (
        "UPDATE account_balance SET customer_id = -customer_id"
    ),
    "I3 the burning lot is an open one of its own account": (
        "UPDATE account_balance SET burning_left = burning_left + 99"
    ),
    "I3 the burning lot comes first in burn order": (
        "UPDATE account_balance SET burning_lot_id = (SELECT id FROM lot WHERE bought)"
    ),
    "I4 a hold holds what it drew": ("UPDATE hold SET lots = NULL, lot_id = NULL"),
    "I4 a hold draws its own customer's lots": (
        "UPDATE hold SET customer_id = 12345 WHERE state = 'open'"
    ),
    "I4 balance minus held is not negative": (
        "UPDATE account_balance SET held = balance + 1"
    ),
    "I4 held equals the sum of open holds": (
        "UPDATE hold SET amount = amount + 1 WHERE state = 'open'"
    ),
    "I4 every open hold has a balance to stand on": (
        "UPDATE hold SET customer_id = 12345 WHERE state = 'open'"
    ),
    "I5 a lot's remainder is what was booked on it less what is held": (
        "UPDATE lot SET remaining = remaining - 1 WHERE bought"
    ),
    "I5 a grant is a lot, and what was paid for is bought": (
        "UPDATE lot SET bought = NOT bought"
    ),
    "I5 a charge draws no lot outside its time": (
        "UPDATE lot SET effective_at_ms = effective_at_ms + 3600000"
    ),
    "I5 a hold draws no lot outside its time": (
        "UPDATE lot SET effective_at_ms = 1, expires_at_ms = 2"
    ),
    "I5 breakage is what had expired, and bought credits never do": (
        "UPDATE lot SET expires_at_ms = expires_at_ms + 3600000"
        " WHERE expires_at_ms IS NOT NULL"
    ),
    "I5 every credit from outside is a grant": (
        "DELETE FROM credit_grant WHERE category = 'promotional'"
    ),
    "I5 every grant is booked from outside": (
        f"UPDATE credit_grant SET ledger_transaction_id = {_A_CHARGE}"
        " WHERE category = 'paid'"
    ),
    "I5 a paid grant costs what its transaction took in": (
        "UPDATE credit_grant SET cost_amount = cost_amount + 1"
    ),
    "I9 a settled hold says when, an open one does not": (
        "UPDATE hold SET settled_at_ms = NULL WHERE state = 'released'"
    ),
    "I9 a captured hold took from its own draws": (
        "UPDATE hold SET lot_id = lot_id + 1, lots = NULL WHERE state = 'captured'"
    ),
    "I9 every captured hold has its charge": (
        "UPDATE hold SET captured = captured - 1 WHERE state = 'captured'"
    ),
    "I9 nothing is charged for a hold that was not captured": (
        "UPDATE hold SET state = 'released', captured = 0 WHERE state = 'captured'"
    ),
    "I12 reversals take back at most what they reverse": (
        "UPDATE transfer SET amount = amount + 9 WHERE ledger_transaction_id ="
        " (SELECT MIN(id) FROM ledger_transaction WHERE kind = 'reversal')"
    ),
    "I12 what was reversed is counted": ("UPDATE reversed SET reversed = reversed - 1"),
    "I12 what is reversed goes back to its own lots": (
        "UPDATE transfer SET lot_id = (SELECT id FROM lot WHERE bought)"
        " WHERE ledger_transaction_id ="
        " (SELECT MIN(id) FROM ledger_transaction WHERE kind = 'reversal')"
    ),
    "I12 a reversal names what it reverses": (
        "UPDATE ledger_transaction SET reverses_id = NULL WHERE kind = 'reversal'"
    ),
    "I13 amounts are whole numbers below the limit": (
        f"UPDATE transfer SET amount = -amount WHERE ledger_transaction_id = {_A_CHARGE}"
    ),
    "I14 a limit used no more than was allowed in its window": (
        "UPDATE spend_limit SET used = highest + 1"
    ),
    "I14 a limit has a window that ends, unless it is total": (
        "UPDATE spend_limit SET ends_at_ms = ends_at_ms + 1"
    ),
    "I14 what open holds took is counted in their limits": (
        "UPDATE spend_limit SET used = used - 1"
    ),
    "I14 a hold takes more than nothing from a limit": (
        "UPDATE hold SET limits = replace(limits, ',7,', ',-7,')"
    ),
}


async def _live_a_little(db: Database) -> None:
    await give(db, 50)
    await buy(db, 1_000_000, 10_000_000)
    await give(db, 5, BOB)
    now = db.clock.now_ms()
    await give_lot(db, 9, BOB, effective_at_ms=now + 3_600_000)
    await give_lot(db, 4, BOB, effective_at_ms=now - 9, expires_at_ms=now - 1)
    wrong = await book(db, charge(3, "wrong"))
    back = Transfer(
        chart.feature_revenue("x"), chart.customer_credits(ALICE), Amount(3, CREDIT)
    )
    await book(
        db,
        Posting(
            TransactionKind.REVERSAL,
            fresh_key(),
            [back],
            "taken back",
            reverses_id=wrong.ledger_transaction_id,
        ),
    )
    await capture(db, await hold(db, 7))
    await release(db, await hold(db, 7))
    vanished = await give(db, 6, CAROL)
    await book(db, charge(2, "spent", CAROL))
    await db.write(
        lambda session: claw_back(
            session,
            vanished.ledger_transaction_id,
            idempotency_key=fresh_key(),
            reference="vanished",
            memo="",
        )
    )
    budget = await set_limit(db, 9, LimitPeriod.MONTH)
    await hold(db, 7, limits=[LimitTake(budget, 7, in_credits=True)])


def test_every_invariant_has_its_control() -> None:
    guards = "I2 the guards of the journal are in place"
    rights = "I2 nobody has the right to change what is posted"
    checked = {*ledger_audit.INVARIANTS, *credits_audit.INVARIANTS}
    assert checked == {*_CONTROLS, guards, rights, *test_seals.CONTROLLED}


async def test_sound_books_have_no_findings(unaudited_db: Database) -> None:
    assert await audit(unaudited_db) == []
    await _live_a_little(unaudited_db)
    assert await audit(unaudited_db) == []


@pytest.mark.parametrize("invariant", _CONTROLS)
async def test_the_audit_names_what_was_tampered_with(
    unaudited_db: Database, invariant: str
) -> None:
    await _live_a_little(unaudited_db)
    await tamper(unaudited_db, _CONTROLS[invariant])
    findings = await audit(unaudited_db)
    assert invariant in [one.invariant for one in findings]
    assert all("first broken row: {" in one.detail for one in findings)


async def test_the_audit_misses_a_guard_that_was_dropped(
    unaudited_db: Database,
) -> None:
    drop = {
        True: "DROP TRIGGER transfer_refuses_update",
        False: "ALTER TABLE transfer DISABLE TRIGGER USER",
    }
    await run(unaudited_db, drop[unaudited_db.is_sqlite])
    (finding,) = await audit(unaudited_db)
    assert finding.invariant == "I2 the guards of the journal are in place"
    assert "transfer" in finding.detail


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_audit_sees_a_fraction_that_sqlite_let_in(
    unaudited_db: Database,
) -> None:
    await _live_a_little(unaudited_db)
    await tamper(unaudited_db, "UPDATE transfer SET amount = 1.5 WHERE position = 0")
    names = [one.invariant for one in await audit(unaudited_db)]
    assert "I13 amounts are whole numbers below the limit" in names


async def test_the_audit_sees_a_line_that_was_slipped_in(
    unaudited_db: Database,
) -> None:
    """A forger who also adjusts the balance still breaks numbering and lots."""
    await _live_a_little(unaudited_db)
    alice = f"(SELECT id FROM ledger_account WHERE customer_id = {ALICE})"
    house = "(SELECT id FROM ledger_account WHERE code = 'expense:promotions')"
    key = digest16(b"forged").hex()
    blob = f"X'{key}'" if unaudited_db.is_sqlite else f"'\\x{key}'::bytea"
    await tamper(
        unaudited_db,
        "INSERT INTO ledger_transaction (id, kind, idempotency_key, input_hash,"
        " reference, memo, occurred_at_ms, posted_at_ms)"
        f" VALUES (1, 'charge', {blob}, {blob}, 'forged', '', 1, 1)",
        "INSERT INTO transfer (ledger_transaction_id, position, debit_account_id,"
        f" credit_account_id, amount) VALUES (1, 0, {house}, {alice}, 1000)",
        "UPDATE account_balance SET balance = balance + 1000"
        f" WHERE ledger_account_id = {alice}",
    )
    names = [one.invariant for one in await audit(unaudited_db)]
    assert names == [
        "I3 a customer's lines are numbered, the house's are not",
        "I3 balance equals what remains in the lots plus what is held",
    ]
