"""Books from before there were lots, lived again so that every line names its lots.

Part of revision 0004 and frozen with it: it knows tables, not today's code. Before it,
nothing expired and nothing had a priority, so what was not bought burns first, then
what is oldest.
"""

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

_ACCOUNTS = """
    SELECT ledger_account.id, customer_id, balance FROM ledger_account
      JOIN account_balance ON ledger_account_id = ledger_account.id
     ORDER BY ledger_account.id"""
_LINES = """
    SELECT line.id, line.amount, ledger_transaction_id, reverses_id, posted_at_ms
      FROM (SELECT id, ledger_transaction_id, -amount AS amount,
                   debit_version AS version
              FROM transfer WHERE debit_account_id = :account
            UNION ALL
            SELECT id, ledger_transaction_id, amount, credit_version
              FROM transfer WHERE credit_account_id = :account) AS line
      JOIN ledger_transaction ON ledger_transaction.id = ledger_transaction_id
     ORDER BY line.version"""
_GRANTS = """
    SELECT ledger_transaction_id, id, category FROM credit_grant
     WHERE customer_id = :customer"""
_HOLDS = """
    SELECT id, amount FROM hold
     WHERE customer_id = :customer AND state = 'open' ORDER BY id"""
_LOT = """
    INSERT INTO lot (id, ledger_account_id, amount, remaining, is_open, priority,
                     bought, effective_at_ms, expires_at_ms)
    VALUES (:id, :account, :amount, :remaining, :open, 0, :bought, :at, NULL)"""
_REVERSED = """
    INSERT INTO reversed (ledger_transaction_id, asset, amount, reversed)
    SELECT original.id, moved.asset, moved.amount, back.amount
      FROM ledger_transaction AS original
      JOIN ledger_transaction AS mirror ON mirror.reverses_id = original.id
      JOIN ({sums}) AS moved ON moved.ledger_transaction_id = original.id
      JOIN ({sums}) AS back
        ON back.ledger_transaction_id = mirror.id AND back.asset = moved.asset"""
_SUMS = """
    SELECT ledger_transaction_id, asset, CAST(SUM(amount) AS BIGINT) AS amount
      FROM transfer JOIN ledger_account ON ledger_account.id = debit_account_id
     GROUP BY ledger_transaction_id, asset"""

Changes = list[tuple[int, int]]


class _CannotMatch(Exception):
    """These books did not add up before; the audit will say so."""


class _Life:
    """A customer's lots as they came and went."""

    def __init__(self) -> None:
        self.lots: dict[int, dict[str, Any]] = {}
        self.lines: dict[int, Changes] = {}
        self.drawn: dict[int, Changes] = {}
        self.holds: dict[int, Changes] = {}

    def open(self, lot_id: int, amount: int, at: int, *, bought: bool) -> Changes:
        lot = {"id": lot_id, "amount": amount, "remaining": amount}
        self.lots[lot_id] = lot | {"bought": bought, "at": at}
        return [(lot_id, amount)]

    def draw(self, amount: int) -> Changes:
        changes = []
        for lot in sorted(self.lots.values(), key=lambda one: one["bought"]):
            taken = min(lot["remaining"], amount)
            if taken:
                lot["remaining"] -= taken
                amount -= taken
                changes.append((lot["id"], -taken))
        if amount:
            raise _CannotMatch
        return changes

    def require(self, balance: int) -> None:
        if sum(one["remaining"] for one in self.lots.values()) != balance:
            raise _CannotMatch

    def give_back(self, original: int, amount: int) -> Changes | None:
        """To the lots that the original drew, the last one first."""
        drawn = self.drawn.get(original, [])
        if -sum(taken for _, taken in drawn) < amount:
            return None
        changes = []
        for lot_id, taken in reversed(drawn):
            part = min(-taken, amount)
            if part:
                self.lots[lot_id]["remaining"] += part
                amount -= part
                changes.append((lot_id, part))
        return changes


def carry_over(connection: Connection) -> None:
    """Fill the lots, the lines' and holds' draws, and what was reversed."""
    several: dict[int, Changes] = {}
    for account, customer, balance in connection.execute(sa.text(_ACCOUNTS)).all():
        life = _live(connection, account, customer, balance)
        for lot in life.lots.values():
            row = lot | {"account": account, "open": lot["remaining"] > 0}
            connection.execute(sa.text(_LOT), row)
        # A transfer between two customers is a line of both.
        for transfer, changes in life.lines.items():
            several.setdefault(transfer, []).extend(changes)
            _remember(connection, "transfer", transfer, several[transfer])
        for hold, changes in life.holds.items():
            kept = [(lot, -amount) for lot, amount in changes]
            _remember(connection, "hold", hold, kept)
    connection.execute(sa.text(_REVERSED.format(sums=_SUMS)))


def _live(connection: Connection, account: int, customer: int, balance: int) -> _Life:
    found = connection.execute(sa.text(_GRANTS), {"customer": customer}).all()
    grants = {transaction: (id_, category) for transaction, id_, category in found}
    holds = connection.execute(sa.text(_HOLDS), {"customer": customer}).all()
    lines = connection.execute(sa.text(_LINES), {"account": account}).all()
    bought_any = "paid" in {category for _, category in grants.values()}
    life = _Life()
    try:
        for transfer, amount, transaction, reverses, at in lines:
            changes = _step(life, grants, transfer, amount, transaction, reverses, at)
            life.lines[transfer] = life.lines.get(transfer, []) + changes
        life.require(balance)
        for hold, amount in holds:
            life.holds[hold] = life.draw(amount)
    except _CannotMatch:
        return _in_one_lot(account, balance, holds, bought=bought_any)
    return life


def _step(
    life: _Life,
    grants: dict[int, tuple[int, str]],
    transfer: int,
    amount: int,
    transaction: int,
    reverses: int | None,
    at: int,
) -> Changes:
    if amount < 0:
        changes = life.draw(-amount)
        life.drawn.setdefault(transaction, []).extend(changes)
        return changes
    returned = life.give_back(reverses, amount) if reverses is not None else None
    if returned is not None:
        return returned
    lot_id, category = grants.pop(transaction, (transfer, ""))
    return life.open(lot_id, amount, at, bought=category == "paid")


def _in_one_lot(
    account: int, balance: int, holds: Sequence[Any], *, bought: bool
) -> _Life:
    life = _Life()
    if balance > 0:
        life.open(account, balance, 0, bought=bought)
        for hold, amount in holds:
            life.holds[hold] = life.draw(amount)
    return life


def _remember(
    connection: Connection, table: str, row_id: int, changes: Changes
) -> None:
    one = changes[0][0] if len(changes) == 1 else None
    packed = None if one is not None else json.dumps(changes, separators=(",", ":"))
    connection.execute(
        sa.text(f"UPDATE {table} SET lot_id = :one, lots = :lots WHERE id = :id"),  # noqa: S608  # our own words
        {"one": one, "lots": packed, "id": row_id},
    )
