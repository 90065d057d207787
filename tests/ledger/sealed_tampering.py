"""Sealed books, and what may be done to them behind the ledger."""

from dataclasses import dataclass

from tests.credits.calls import capture, hold
from tests.ledger.bookings import book, buy, charge, give
from tests.ledger.sealed import head_of, ids_of

from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.db import Database
from tallystick.kernel.ids import encode_id
from tallystick.kernel.seal import digest16
from tallystick.ledger import sealed_audit
from tallystick.ledger.links import Head
from tallystick.ledger.sealing import seal_due

HOUR = 3600


@dataclass(frozen=True)
class Sealed:
    """Five transactions in three seals, and one that no seal has yet."""

    ids: list[int]
    noted: list[Head]


async def a_life(db: Database, clock: OffsetClock) -> Sealed:
    clock.advance(-9 * HOUR)
    noted = []
    for work in (
        lambda: buy(db, 1_000_000, 10_000_000),
        lambda: capture_some(db),
        lambda: give(db, 5),
    ):
        await work()
        await book(db, charge(3, f"a call {len(noted)}"))
        clock.advance(3 * HOUR)
        assert await seal_due(db) == 1
        noted.append(await head_of(db))
    await book(db, charge(3, "the last"))
    return Sealed(await ids_of(db), noted)


async def capture_some(db: Database) -> None:
    await capture(db, await hold(db, 7))


def a_transaction(db: Database, id_: int) -> str:
    """A forged copy of an older one, with a key of its own."""
    key = digest16(b"forged").hex()
    blob = f"X'{key}'" if db.is_sqlite else f"'\\x{key}'::bytea"
    return (
        "INSERT INTO ledger_transaction (id, kind, idempotency_key, input_hash,"
        " reference, memo, occurred_at_ms, posted_at_ms) SELECT"
        f" {id_}, kind, {blob}, {blob}, reference, memo, occurred_at_ms,"
        " posted_at_ms FROM ledger_transaction ORDER BY id LIMIT 1"
    )


CHAINED, UNCHANGED, SEALED, NOTED = CONTROLLED = sealed_audit.INVARIANTS
_OF_A_CALL = "ledger_transaction_id = {call}"
# Tampering, the invariant, and what the finding says; {call} is in the second seal.
TAMPERING: dict[str, tuple[list[str], str, str]] = {
    **{
        f"a transfer's {column}": (
            [f"UPDATE transfer SET {column} = {value} WHERE {_OF_A_CALL}"],
            UNCHANGED,
            "transaction {call} was changed after seal 2",
        )
        for column, value in {
            "amount": "amount + 1",
            "lot_id": "lot_id + 1",
            "lots": "'[[1,1]]'",
            "position": "position + 1",
            "debit_balance_after": "7",
            "debit_version": "debit_version + 99",
            "credit_account_id": "(SELECT id FROM ledger_account"
            " WHERE code = 'expense:promotions')",
        }.items()
    },
    **{
        f"a transaction's {column}": (
            [f"UPDATE ledger_transaction SET {column} = {value} WHERE id = {{call}}"],
            UNCHANGED,
            "transaction {call} was changed after seal 2",
        )
        for column, value in {
            "kind": "'grant'",
            "memo": "'Another call'",
            "reference": "''",
            "reverses_id": "{first}",
            "occurred_at_ms": "occurred_at_ms + 1",
            "posted_at_ms": "posted_at_ms - 1",
            "input_hash": "idempotency_key",
        }.items()
    },
    **{
        f"the {column} of a lot": (
            [f"UPDATE lot SET {column} = {value} WHERE bought"],
            UNCHANGED,
            "transaction {first} was changed after seal 1",
        )
        for column, value in {
            "amount": "amount + 1",
            "priority": "priority + 1",
            "effective_at_ms": "effective_at_ms - 1",
            "ledger_account_id": "ledger_account_id + 1",
            "expires_at_ms": "effective_at_ms + 99999999999",
        }.items()
    },
    "that a lot was bought": (
        ["UPDATE lot SET bought = NOT bought WHERE bought"],
        UNCHANGED,
        "transaction {first} was changed after seal 1",
    ),
    "a lot that was taken away": (
        ["DELETE FROM lot WHERE bought"],
        UNCHANGED,
        "transaction {first} was changed after seal 1",
    ),
    "the format of a seal": (
        ["UPDATE journal_seal SET format = 1 WHERE number = 2"],
        CHAINED,
        "seal 2 was changed",
    ),
    "a seal without a format": (
        ["UPDATE journal_seal SET format = NULL WHERE number = 2"],
        CHAINED,
        "seal 2 was changed",
    ),
    "a seal of no format that is known": (
        ["UPDATE journal_seal SET format = 3 WHERE number = 2"],
        CHAINED,
        "seal 2 was changed",
    ),
    "an account's code": (
        ["UPDATE ledger_account SET code = code || 'y' WHERE code LIKE '%feature:x'"],
        UNCHANGED,
        "transaction {charge} was changed after seal 1",
    ),
    "whose account it is": (
        ["UPDATE ledger_account SET customer_id = 99 WHERE customer_id IS NOT NULL"],
        UNCHANGED,
        "transaction {first} was changed after seal 1",
    ),
    "a transaction, removed": (
        [
            f"DELETE FROM transfer WHERE {_OF_A_CALL}",
            "DELETE FROM ledger_transaction WHERE id = {call}",
        ],
        UNCHANGED,
        "transaction {call} was removed after seal 2",
    ),
    "the oldest transaction, removed": (
        ["DELETE FROM ledger_transaction WHERE id = {first}"],
        UNCHANGED,
        "transaction {first} was removed after seal 1",
    ),
    "the last that was sealed, removed": (
        ["DELETE FROM ledger_transaction WHERE id = {last}"],
        UNCHANGED,
        "transaction {last} was removed after seal 3",
    ),
    "a transfer, removed": (
        [f"DELETE FROM transfer WHERE {_OF_A_CALL}"],
        UNCHANGED,
        "transaction {call} was changed after seal 2",
    ),
    "everything, removed": (
        ["DELETE FROM transfer", "DELETE FROM ledger_transaction"],
        UNCHANGED,
        "transaction {first} was removed after seal 1",
    ),
    "several, of which the oldest is named": (
        ["UPDATE transfer SET amount = amount + 1"],
        UNCHANGED,
        "transaction {first} was changed after seal 1",
    ),
    "a seal's time": (
        ["UPDATE journal_seal SET sealed_at_ms = 1 WHERE number = 2"],
        CHAINED,
        "seal 2 was changed",
    ),
    "a seal's digest": (
        ["UPDATE journal_seal SET digest = previous WHERE number = 2"],
        CHAINED,
        "seal 2 was changed",
    ),
    "a seal's digests": (
        ["UPDATE journal_seal SET digests = digest WHERE number = 3"],
        CHAINED,
        "seal 3 was changed",
    ),
    "a seal's ids": (
        ["UPDATE journal_seal SET transaction_ids = digest WHERE number = 1"],
        CHAINED,
        "seal 1 was changed",
    ),
    "where a seal ends": (
        ["UPDATE journal_seal SET last_id = last_id + 1 WHERE number = 3"],
        CHAINED,
        "seal 3 was changed",
    ),
    "the first seal, removed": (
        ["DELETE FROM journal_seal WHERE number = 1"],
        CHAINED,
        "seal 1 was removed",
    ),
    "a seal in the middle, removed": (
        ["DELETE FROM journal_seal WHERE number = 2"],
        CHAINED,
        "seal 2 was removed",
    ),
    "a seal in the middle, removed and the gap closed": (
        [
            "DELETE FROM journal_seal WHERE number = 2",
            "UPDATE journal_seal SET number = 2 WHERE number = 3",
        ],
        CHAINED,
        "seal 2 was changed",
    ),
    "the last seal, removed": (
        ["DELETE FROM journal_seal WHERE number = 3"],
        CHAINED,
        "seal 3 was removed: 3 were made",
    ),
    "all seals, removed": (
        ["DELETE FROM journal_seal"],
        CHAINED,
        "seal 1 was removed: 3 were made",
    ),
    "the count of seals": (
        ["UPDATE installation SET seals = 2"],
        CHAINED,
        "seal 3 was added: 2 were made",
    ),
    "two seals that were swapped": (
        [
            "UPDATE journal_seal SET number = 99 WHERE number = 2",
            "UPDATE journal_seal SET number = 2 WHERE number = 3",
            "UPDATE journal_seal SET number = 3 WHERE number = 99",
        ],
        CHAINED,
        "seal 2 was changed",
    ),
}


def named(words: str, sealed: Sealed) -> str:
    ids = {
        "first": sealed.ids[0],
        "charge": sealed.ids[1],
        "call": sealed.ids[2],
        "last": sealed.ids[-2],
    }
    told = {name: f"{encode_id('ltx', one)} (id {one})" for name, one in ids.items()}
    return words.format(**told)


def with_ids(sql: str, sealed: Sealed) -> str:
    return sql.format(first=sealed.ids[0], call=sealed.ids[2], last=sealed.ids[-2])
