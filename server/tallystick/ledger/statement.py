"""A customer's statement: every line with the balance after it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.kernel.db import ReadSession, query
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import MicroCredits, to_decimal


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One change of a customer's credits; amounts in micro-credits, time in ms.

    ``version`` counts the account's lines from 1 and is the cursor for paging.
    """

    ledger_transaction_id: int
    version: int
    kind: str
    memo: str
    amount: MicroCredits
    balance_after: MicroCredits
    posted_at_ms: int


def line_document(one: StatementLine) -> dict[str, Any]:
    """A line as JSON, wherever it is told; credits are exact numbers."""
    return {
        "id": encode_id("ltx", one.ledger_transaction_id),
        "type": one.kind,
        "description": one.memo,
        "credits": to_decimal(one.amount),
        "balance_after": to_decimal(one.balance_after),
        "posted_at_ms": one.posted_at_ms,
    }


# Each side is cut to the page by its own (account, version) index. Through the view
# ``entry`` SQLite would read the whole journal first.
_LINES = """
    SELECT line.ledger_transaction_id, line.version, ledger_transaction.kind,
           ledger_transaction.memo, line.amount, line.balance_after,
           ledger_transaction.posted_at_ms
      FROM (
        SELECT * FROM (
            SELECT ledger_transaction_id, debit_version AS version, -amount AS amount,
                   debit_balance_after AS balance_after
              FROM transfer
             WHERE debit_account_id = :account_id AND {debits}) AS debits
        UNION ALL
        SELECT * FROM (
            SELECT ledger_transaction_id, credit_version, amount, credit_balance_after
              FROM transfer
             WHERE credit_account_id = :account_id AND {credits}) AS credits
      ) AS line
      JOIN ledger_transaction ON ledger_transaction.id = line.ledger_transaction_id
     ORDER BY line.version {order}
"""
_NEWEST = _LINES.format(
    debits="debit_version < :before ORDER BY debit_version DESC LIMIT :limit",
    credits="credit_version < :before ORDER BY credit_version DESC LIMIT :limit",
    order="DESC LIMIT :limit",
)
_BETWEEN = _LINES.format(
    debits="debit_version BETWEEN :first AND :last",
    credits="credit_version BETWEEN :first AND :last",
    order="",
)
_ACCOUNT = """
    SELECT ledger_account_id AS id, version
      FROM account_balance WHERE customer_id = :customer_id"""


async def statement(
    session: ReadSession, customer_id: int, *, before: int | None = None, limit: int
) -> Sequence[StatementLine]:
    """The customer's newest lines first, those with a version below ``before``."""
    accounts = await query(session, _ACCOUNT, customer_id=customer_id)
    if not accounts:
        return []
    rows = await query(
        session,
        _NEWEST,
        account_id=accounts[0]["id"],
        before=before if before is not None else (1 << 63) - 1,
        limit=limit,
    )
    return [StatementLine(**row) for row in rows]


@dataclass(frozen=True, slots=True)
class Written:
    """How far a customer's statement has come: its account, and its newest line."""

    account_id: int
    version: int


async def written(session: ReadSession, customer_id: int) -> Written | None:
    """How far the statement has come; None for a customer without one."""
    rows = await query(session, _ACCOUNT, customer_id=customer_id)
    return Written(rows[0]["id"], rows[0]["version"]) if rows else None


async def lines_between(
    session: ReadSession, account_id: int, first: int, last: int
) -> Sequence[StatementLine]:
    """The account's lines of these versions, oldest first.

    Lines never change and are numbered without gaps, so whoever reads the pages up to
    one version, however long that takes, reads the statement of one moment.
    """
    values = {"account_id": account_id, "first": first, "last": last}
    rows = await query(session, _BETWEEN, **values)
    return [StatementLine(**row) for row in rows]
