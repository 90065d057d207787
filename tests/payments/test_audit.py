"""Negative controls: each way of cooking the books is found, and named."""

import sqlite3

import pytest

from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.reconciling.reconcile import reconcile
from tests.chain.payer import transfer_call
from tests.house import DOLLAR, House, Process, Wallet

I3 = "I3 balance equals the sum of entries, version their number"
I3_LINE = "I3 each line continues from the line before"
I3_LOTS = "I3 balance equals what remains in the lots plus what is held"
I3_OPENED = "I3 a lot was opened once, with its amount"
I5_LOT = "I5 a grant is a lot, and what was paid for is bought"
I5_REMAINDER = "I5 a lot's remainder is what was booked on it less what is held"
I5_GRANTS = "I5 every credit from outside is a grant"
I5_COST = "I5 a paid grant costs what its transaction took in"
I5_OWNER = "I5 every grant is booked from outside"
I5_SUSPENSE = "I5 suspense equals the Transfers without an owner"
I6 = "I6 the ledger's USDC equals the token's balance plus what was swept"
I7_TRANSFER = "I7 a paid top-up has exactly its Transfer"
I7_GRANT = "I7 a paid top-up was granted what it bought"
I7_VALUE = "I7 a top-up's Transfer moved what was signed"
I7_REDEEMED = "I7 what was redeemed was granted to whose wallet sent it"
I10_SUM = "I10 exposure is what was credited before its block was safe"
I10_ONLY = "I10 only what is credited and not safe yet is exposed"
I7_WAIVED = "I7 a waived claim was never signed by our relayer"
I18_DAY = "I18 a relayer's gas of a day is that of its transactions"
I18_PAYER = "I18 what came to nothing of a payer's is that of his transactions"
I18_COUNTS = "I18 the gas of each transaction counts on a day"
I16_OUT = "I16 every Transfer out of pay_to is in the ledger, and no other"
I16 = "I16 every Transfer to pay_to is in the ledger, and no other"


def tamper(house: House, sql: str) -> None:
    """Change the database behind the server's back, with the guards taken off."""
    house.is_sound = False
    path = house.database_url.removeprefix("sqlite+aiosqlite:///")
    with sqlite3.connect(path, isolation_level=None) as connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        changed = connection.execute(sql).rowcount
        # Whoever tampers covers his tracks: missing guards would give him away.
        for _, guard in triggers:
            connection.execute(guard)
    connection.close()
    assert changed == 1, "the control must change something"


async def sweep(house: House, usdc: int) -> None:
    """The seller takes money out."""
    local = house.local
    await local.send(house.pay_to, local.token, transfer_call(b"\x0e" * 20, usdc))


@pytest.fixture
async def shop(house: House, wallet: Wallet) -> Process:
    """Books with one top-up, one suspended transfer and one sweep in them."""
    process = await house.start()
    await process.settle(await process.claim(await wallet.authorize(house.pay_to)))
    await process.tend()
    await wallet.send(house.pay_to, 2 * DOLLAR)
    await sweep(house, DOLLAR)
    report = await process.audit()
    assert report.findings == [], "sound before it is tampered with"
    return process


CONTROLS = {
    "a day's gas is counted down": (
        "UPDATE gas_day SET spent = spent - 1, wasted = 0",
        {I18_DAY},
    ),
    "a payer's gas is forgiven": (
        "UPDATE payer_gas SET reserved = reserved + 1",
        {I18_PAYER},
    ),
    "a day of gas is dropped": ("DELETE FROM gas_day", {I18_COUNTS}),
    "what a transaction cost is changed": (
        "UPDATE relayed_gas SET spent = spent + 1",
        {I18_DAY},
    ),
    "a top-up's Transfer is dropped": (
        "DELETE FROM chain_transfer WHERE topup_id IS NOT NULL",
        {I7_TRANSFER, I16},
    ),
    "a suspended Transfer is dropped": (
        "DELETE FROM chain_transfer WHERE topup_id IS NULL",
        {I5_SUSPENSE, I16},
    ),
    "a Transfer is changed by one unit": (
        "UPDATE chain_transfer SET value = value + 1 WHERE topup_id IS NULL",
        {I5_SUSPENSE, I16},
    ),
    "a Transfer is invented": (
        """INSERT INTO chain_transfer
           SELECT id + 1, chain_id, token, block_number, block_hash, tx_hash,
                  log_index + 100, sender, pay_to, value, NULL, NULL, seen_at_ms,
                  presence, generation, NULL
             FROM chain_transfer WHERE topup_id IS NULL""",
        {I5_SUSPENSE, I16},
    ),
    "a sweep is dropped": ("DELETE FROM chain_outflow", {I16_OUT}),
    "a sweep is changed by one unit": (
        "UPDATE chain_outflow SET value = value + 1",
        {I16_OUT},
    ),
    "a sweep is booked off by one unit": (
        """UPDATE transfer SET amount = amount - 1 WHERE ledger_transaction_id =
                  (SELECT id FROM ledger_transaction WHERE kind = 'sweep')""",
        {I6},
    ),
    "dollars are booked off": (
        """UPDATE transfer SET amount = amount - 1
            WHERE debit_account_id =
                  (SELECT id FROM ledger_account WHERE code LIKE 'assets:chain:%')
              AND ledger_transaction_id =
                  (SELECT id FROM ledger_transaction WHERE kind = 'topup')""",
        {I5_COST, I6},
    ),
    "credits are booked up": (
        "UPDATE transfer SET amount = amount + 1 WHERE credit_balance_after IS NOT NULL",
        {I3, I3_LINE, I3_OPENED, I5_GRANTS, I5_REMAINDER},
    ),
    "a balance is raised": (
        "UPDATE account_balance SET balance = balance + 1",
        {I3, I3_LOTS},
    ),
    "a grant is raised": (
        "UPDATE credit_grant SET amount = amount + 1",
        {I5_GRANTS, I5_LOT, I7_GRANT},
    ),
    "a grant changes hands": (
        "UPDATE credit_grant SET customer_id = 1",
        {I5_GRANTS, I5_LOT, I5_OWNER, I7_GRANT},
    ),
    "a top-up is made to have bought more": (
        "UPDATE topup SET credits = credits + 1",
        {I7_GRANT},
    ),
    "a top-up is made to have cost less": (
        "UPDATE topup SET value = value - 1",
        {I7_VALUE, I10_ONLY},
    ),
    "a paid top-up is opened again": (
        "UPDATE topup SET state = 'claimed'",
        {I7_TRANSFER, I10_ONLY},
    ),
    "what may be replaced is counted as less": (
        "UPDATE exposure SET provisional = provisional - 1 WHERE customer_id = 0",
        {I10_SUM},
    ),
    "suspended money is redeemed without a grant": (
        """INSERT INTO redemption
           SELECT id, generation, (SELECT id FROM customer), 5, 'v', 0
             FROM chain_transfer WHERE topup_id IS NULL""",
        {I5_SUSPENSE, I7_REDEEMED},
    ),
    "a waived claim was settled": (
        "UPDATE claim SET state = 'waived'",
        {I7_WAIVED},
    ),
}


@pytest.mark.parametrize("control", CONTROLS)
async def test_cooked_books_are_found_and_named(
    house: House, shop: Process, control: str
) -> None:
    sql, invariants = CONTROLS[control]
    tamper(house, sql)
    report = await shop.audit()
    assert not report.ok
    assert {one.invariant for one in report.findings} == invariants


async def test_a_transfer_behind_the_cursor_is_found_and_named(
    house: House, shop: Process, wallet: Wallet
) -> None:
    """The observer went past it: a node hid it, or somebody moved the cursor."""
    await wallet.send(house.pay_to, DOLLAR)
    await wallet.local.mine()
    head = await shop.rail.head()
    place = f"block_number = {head.number}, block_hash = x'{head.hash.hex()}'"
    tamper(house, f"UPDATE chain_cursor SET {place}")  # our own words
    report = await shop.audit()
    assert {one.invariant for one in report.findings} == {I6, I16}
    (named,) = [one for one in report.findings if one.invariant == I16]
    assert f"chain {DOLLAR}, ledger None" in named.detail


async def test_money_that_left_is_accounted_for(house: House, shop: Process) -> None:
    """What the seller sweeps out is missing at the address, and not from the books."""
    await sweep(house, DOLLAR)
    report = await shop.audit()
    assert report.findings == []
    assert report.chain is not None
    assert report.chain.ledger_usdc == report.chain.chain_usdc == DOLLAR


async def test_books_that_were_never_opened_cannot_be_compared(house: House) -> None:
    process = await house.start()
    tamper(house, "DELETE FROM chain_cursor")
    with pytest.raises(TopUpsUnavailable, match="start the server once"):
        await reconcile(process.db, process.rail)
