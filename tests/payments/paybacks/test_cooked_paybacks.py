"""Negative controls: each way of cooking the paybacks is found, and named."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tallystick.payments.paybacks.checks import PAYBACK_CHECKS
from tallystick.payments.paybacks.issuing import (
    hand_out,
    pay_from_float_key,
    take_signature,
)
from tallystick.payments.paybacks.paying import pay_out
from tests.house import House, Wallet
from tests.payments.paybacks.scenes import CREDIT, Shop
from tests.payments.paybacks.test_transfers import back, redeemed
from tests.payments.test_audit import tamper

TOOK, GAVE, OUT, NOTHING, UNDER_WAY, NO_MORE, *OTHERS = PAYBACK_CHECKS
WHOSE, NO_MORE_SENT, WHOSE_TRANSFER, TRANSFER = OTHERS
OF_TOPUP, OF_TRANSFER = "topup_id IS NOT NULL", "chain_transfer_id IS NOT NULL"
PAID = "state = 'paid'"
BY_FLOAT, BY_SELLER = f"{PAID} AND way = 'float'", f"{PAID} AND way = 'browser'"
NOWHERE = "tx_hash = NULL, log_index = NULL"
SOMEWHERE = """state = 'paid', way = 'float', from_address = to_address,
               tx_hash = nonce, log_index = 0"""
CONTROLS = {
    "a payback took less": (
        f"UPDATE payback SET credits = credits - 1 WHERE {BY_FLOAT}",
        {TOOK},
    ),
    "one under way is forgotten": (
        f"DELETE FROM payback WHERE state = 'approved' AND {OF_TOPUP}",
        {NOTHING, UNDER_WAY, NO_MORE},
    ),
    "one that is cancelled may be paid all the same": (
        "UPDATE payback SET state = 'approved' WHERE state = 'cancelled'",
        {GAVE, UNDER_WAY, NO_MORE},
    ),
    "one that is paid may be paid again": (
        f"UPDATE payback SET state = 'approved', {NOWHERE} WHERE {BY_FLOAT}",
        {OUT, UNDER_WAY},
    ),
    "one is said to be paid": (
        f"UPDATE payback SET {SOMEWHERE} WHERE state = 'approved' AND {OF_TOPUP}",
        {OUT, UNDER_WAY},
    ),
    "more may go back": (
        "UPDATE paid_back SET usdc = usdc - 1",
        {NO_MORE},
    ),
    "more counts as paid": ("UPDATE paid_back SET paid = paid + 1", {NO_MORE}),
    "it goes to somebody else": (
        f"UPDATE payback SET to_address = nonce WHERE state = 'approved' AND {OF_TOPUP}",
        {WHOSE},
    ),
    "it goes to somebody else than who sent it": (
        f"UPDATE payback SET to_address = nonce WHERE {OF_TRANSFER}",
        {WHOSE_TRANSFER},
    ),
    "more of a transfer may go back": (
        "UPDATE transfer_paid_back SET usdc = usdc - 1",
        {NO_MORE_SENT},
    ),
    "more counts as transferred": (
        "UPDATE transfer_paid_back SET paid = paid + 1",
        {NO_MORE_SENT},
    ),
    "its Transfer was another": (
        f"UPDATE payback SET log_index = log_index + 1 WHERE {BY_SELLER}",
        {TRANSFER},
    ),
}


@pytest.fixture
async def books(shop: Shop, wallet: Wallet) -> Shop:
    """One payback of each kind, and books that are right."""
    topup = await shop.bought(wallet)
    db, rail = shop.process.db, shop.process.rail
    by_float = await shop.propose(topup, CREDIT)
    await pay_from_float_key(db, rail, by_float.id, "ann")
    by_seller = await shop.propose(topup, 2 * CREDIT)
    handed = await hand_out(db, rail, by_seller.id, "ann")
    await take_signature(db, rail, handed.id, shop.signature(handed))
    for _ in range(2):
        await pay_out(db, rail)
        await shop.local.mine()
    await shop.cancel(await shop.propose(topup, 3 * CREDIT))
    await shop.propose(topup, 4 * CREDIT)
    await back(shop, await redeemed(shop, wallet), 5 * CREDIT)
    await shop.finalized()
    assert (await shop.process.audit()).findings == []
    return shop


def tamper_and_undo(house: House, sql: str) -> Callable[[], None]:
    """Cook the books; how to have them as they were."""
    path = Path(house.database_url.removeprefix("sqlite+aiosqlite:///"))
    kept = path.with_suffix(".kept")

    def copy(source: Path, target: Path) -> None:
        with sqlite3.connect(source) as one, sqlite3.connect(target) as other:
            one.backup(other)
        one.close()
        other.close()

    copy(path, kept)
    tamper(house, sql)
    return lambda: copy(kept, path)


async def test_cooked_paybacks_are_found_and_named(house: House, books: Shop) -> None:
    """All in one installation, whose books are put back each time."""
    for control, (sql, invariants) in CONTROLS.items():
        undo = tamper_and_undo(house, sql)
        report = await books.process.audit()
        assert {one.invariant for one in report.findings} == invariants, control
        undo()
    assert (await books.process.audit()).findings == []
