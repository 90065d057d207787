"""What must hold between holds, grants and the ledger.

The numbers are those of docs/invariants.md.
"""

from sqlalchemy import RowMapping

from tallystick.credits.holds import hold_behind
from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.ledger import chart
from tallystick.ledger.findings import Checks, Finding, run_by_row, run_checks
from tallystick.ledger.scope import EVERYTHING, Scope
from tallystick.ledger.shapes import A_COUNT, AN_AMOUNT, AN_ID, Truth, is_malformed

_CHECKS = {
    "I5 what customers owe is what was booked on it": """
        SELECT receivable.customer_id, receivable.owed,
               COALESCE(SUM(-entry.amount), 0) AS booked
          FROM receivable
          LEFT JOIN entry
            ON entry.ledger_account_id = receivable.ledger_account_id
         GROUP BY receivable.customer_id, receivable.owed
        HAVING receivable.owed <> COALESCE(SUM(-entry.amount), 0)""",
    "I5 nobody owes beside the receivables": """
        SELECT ledger_account.id, ledger_account.code FROM {ledger_account}
          LEFT JOIN receivable
            ON receivable.ledger_account_id = ledger_account.id
         WHERE (ledger_account.code LIKE 'receivable:%')
            <> (receivable.ledger_account_id IS NOT NULL)""",
    "I4 held equals the sum of open holds": """
        SELECT account_balance.customer_id, account_balance.held,
               COALESCE(held_open.amount, 0)
          FROM {account_balance}
          LEFT JOIN (SELECT customer_id, SUM(amount) AS amount FROM {hold:open}
                      WHERE state = 'open' GROUP BY customer_id) AS held_open
            ON held_open.customer_id = account_balance.customer_id
         WHERE account_balance.held <> COALESCE(held_open.amount, 0)""",
    "I4 every open hold has a balance to stand on": """
        SELECT hold.id, hold.customer_id FROM {hold}
         WHERE hold.state = 'open'
           AND NOT EXISTS (
               SELECT 1 FROM account_balance
                WHERE account_balance.customer_id = hold.customer_id)""",
    "I4 a hold holds what it drew": """
        SELECT hold.id, hold.amount, COALESCE(SUM(hold_draw.amount), 0) AS drawn
          FROM {hold}
          LEFT JOIN {hold_draw} ON hold_draw.hold_id = hold.id
         WHERE hold.state = 'open' OR hold_draw.hold_id IS NOT NULL
         GROUP BY hold.id, hold.amount
        HAVING hold.amount <> COALESCE(SUM(hold_draw.amount), 0)""",
    "I4 a hold draws its own customer's lots": """
        SELECT hold.id, hold.customer_id, hold_draw.lot_id FROM {hold_draw}
          JOIN hold ON hold.id = hold_draw.hold_id
          LEFT JOIN lot ON lot.id = hold_draw.lot_id
          LEFT JOIN ledger_account ON ledger_account.id = lot.ledger_account_id
         WHERE COALESCE(ledger_account.customer_id, -1) <> hold.customer_id""",
    "I5 a lot's remainder is what was booked on it less what is held": """
        SELECT lot_left.id, lot_left.remaining, COALESCE(booked.amount, 0) AS booked,
               COALESCE(held.amount, 0) AS held
          FROM lot_left
          LEFT JOIN (SELECT lot_entry.lot_id, SUM(lot_entry.amount) AS amount
                       FROM lot_entry GROUP BY lot_entry.lot_id) AS booked ON booked.lot_id = lot_left.id
          LEFT JOIN (SELECT hold_draw.lot_id, SUM(hold_draw.amount) AS amount
                       FROM hold_draw JOIN hold ON hold.id = hold_draw.hold_id
                      WHERE hold.state = 'open'
                      GROUP BY hold_draw.lot_id) AS held ON held.lot_id = lot_left.id
         WHERE lot_left.remaining <> COALESCE(booked.amount, 0) - COALESCE(held.amount, 0)""",
    "I5 a grant is a lot, and what was paid for is bought": """
        SELECT credit_grant.id, credit_grant.category, lot.bought, lot.amount
          FROM {credit_grant}
          LEFT JOIN lot ON lot.id = credit_grant.id
          LEFT JOIN ledger_account ON ledger_account.id = lot.ledger_account_id
         WHERE lot.id IS NULL OR lot.amount <> credit_grant.amount
            OR lot.bought <> (credit_grant.category = 'paid')
            OR ledger_account.customer_id <> credit_grant.customer_id""",
    "I5 a charge draws no lot outside its time": """
        SELECT ledger_transaction_id, lot.id, posted_at_ms FROM {lot_entry}
          JOIN ledger_transaction
            ON ledger_transaction.id = lot_entry.ledger_transaction_id
          JOIN lot ON lot.id = lot_entry.lot_id
         WHERE lot_entry.amount < 0 AND kind = 'charge'
           AND (posted_at_ms < effective_at_ms OR posted_at_ms >= expires_at_ms)
           AND NOT EXISTS (SELECT 1 FROM {hold}
                             JOIN {hold_draw} ON hold_draw.hold_id = hold.id
                            WHERE reference = 'hold:' || hold.id
                              AND hold_draw.lot_id = lot.id)""",
    "I5 a hold draws no lot outside its time": """
        SELECT hold.id, lot.id AS lot_id, placed_at_ms FROM {hold_draw}
          JOIN hold ON hold.id = hold_draw.hold_id
          JOIN lot ON lot.id = hold_draw.lot_id
         WHERE placed_at_ms < effective_at_ms OR placed_at_ms >= lot.expires_at_ms""",
    "I5 every credit from outside is a grant": """
        SELECT booked.ledger_transaction_id, booked.customer_id, booked.amount,
               credit_grant.amount
          FROM (SELECT entry.ledger_transaction_id, ledger_account.customer_id,
                       SUM(entry.amount) AS amount
                  FROM {entry}
                  JOIN ledger_account ON ledger_account.id = entry.ledger_account_id
                  JOIN ledger_transaction
                    ON ledger_transaction.id = entry.ledger_transaction_id
                 WHERE ledger_account.customer_id IS NOT NULL
                   AND ledger_transaction.kind IN ('topup', 'grant')
                 GROUP BY entry.ledger_transaction_id, ledger_account.customer_id
               ) AS booked
          LEFT JOIN credit_grant
            ON credit_grant.ledger_transaction_id = booked.ledger_transaction_id
           AND credit_grant.customer_id = booked.customer_id
         WHERE booked.amount <> COALESCE(credit_grant.amount, 0)""",
    "I5 every grant is booked from outside": """
        SELECT credit_grant.id, credit_grant.customer_id, credit_grant.amount
          FROM {credit_grant}
         WHERE NOT EXISTS (
               SELECT 1 FROM transfer
                 JOIN ledger_transaction
                   ON ledger_transaction.id = transfer.ledger_transaction_id
                 JOIN ledger_account
                   ON ledger_account.id = transfer.credit_account_id
                WHERE transfer.ledger_transaction_id
                      = credit_grant.ledger_transaction_id
                  AND ledger_transaction.kind IN ('topup', 'grant')
                  AND ledger_account.customer_id = credit_grant.customer_id)""",
    "I5 a paid grant costs what its transaction took in": """
        SELECT credit_grant.id, credit_grant.cost_amount, credit_grant.cost_asset
          FROM {credit_grant}
         WHERE (credit_grant.category = 'paid' AND credit_grant.cost_amount IS NULL)
            OR credit_grant.cost_amount <> (
               SELECT COALESCE(SUM(transfer.amount), 0) FROM transfer
                 JOIN ledger_account
                   ON ledger_account.id = transfer.credit_account_id
                WHERE transfer.ledger_transaction_id
                      = credit_grant.ledger_transaction_id
                  AND ledger_account.code
                      = 'equity:exchange:' || credit_grant.cost_asset)""",
    "I9 a settled hold says when, an open one does not": """
        SELECT id, state FROM {hold}
         WHERE (state = 'open') <> (settled_at_ms IS NULL)""",
    "I9 a hold was settled before its deadline, and expired from then on": """
        SELECT id, state, settled_at_ms, expires_at_ms FROM {hold}
         WHERE state <> 'open'
           AND (state = 'expired') <> (settled_at_ms >= expires_at_ms)""",
    "I9 every captured hold has its charge": """
        SELECT hold.id, hold.captured FROM {hold}
          LEFT JOIN {ledger_transaction:capture}
            ON ledger_transaction.reference = 'hold:' || hold.id
           AND ledger_transaction.kind = 'charge'
          LEFT JOIN transfer
            ON transfer.ledger_transaction_id = ledger_transaction.id
         WHERE hold.state = 'captured'
           AND COALESCE(transfer.amount, -1) <> hold.captured""",
    "I9 a captured hold took from its own draws": """
        SELECT hold.id, lot_entry.lot_id, lot_entry.amount, hold_draw.amount AS drawn
          FROM {hold}
          JOIN {ledger_transaction:capture}
            ON ledger_transaction.reference = 'hold:' || hold.id
           AND ledger_transaction.kind = 'charge'
          JOIN {lot_entry:capture}
            ON lot_entry.ledger_transaction_id = ledger_transaction.id
          LEFT JOIN {hold_draw}
            ON hold_draw.hold_id = hold.id AND hold_draw.lot_id = lot_entry.lot_id
         WHERE hold.lot_id IS NOT NULL OR hold.lots IS NOT NULL
         GROUP BY hold.id, lot_entry.lot_id, lot_entry.amount, hold_draw.amount
        HAVING -lot_entry.amount > COALESCE(hold_draw.amount, 0)""",
    "I9 nothing is charged for a hold that was not captured": """
        SELECT hold.id, hold.state, hold.captured FROM {hold}
          LEFT JOIN {ledger_transaction:capture}
            ON ledger_transaction.reference = 'hold:' || hold.id
           AND ledger_transaction.kind = 'charge'
         WHERE hold.state <> 'captured'
           AND (hold.captured <> 0 OR ledger_transaction.id IS NOT NULL)""",
    "I14 a limit used no more than was allowed in its window": """
        SELECT id, subject, name, used, most, highest FROM {spend_limit}
         WHERE used < 0 OR used > highest OR most > highest""",
    "I14 a limit has a window that ends, unless it is total": """
        SELECT id, subject, name, period, ends_at_ms FROM {spend_limit}
         WHERE (period = 'total') <> (ends_at_ms IS NULL)
            OR ends_at_ms % 3600000 <> 0
            OR (period IN ('day', 'month') AND ends_at_ms % 86400000 <> 0)""",
    # What a capture leaves of credits goes back. A charge at once is not remembered.
    "I14 what holds took is counted in their limits": """
        SELECT spend_limit.id, spend_limit.used, SUM(taken.amount) AS taken
          FROM spend_limit
          JOIN (SELECT limit_id, window_number,
                       CASE WHEN hold.state = 'open' THEN hold_limit.amount
                            WHEN hold_limit.amount > hold.amount - hold.captured
                            THEN hold_limit.amount - hold.amount + hold.captured
                            ELSE 0 END AS amount
                  FROM hold JOIN hold_limit ON hold_limit.hold_id = hold.id
                 WHERE hold.state IN ('open', 'captured')) AS taken
            ON taken.limit_id = spend_limit.id
           AND taken.window_number = spend_limit.window_number
         GROUP BY spend_limit.id, spend_limit.used
        HAVING SUM(taken.amount) > spend_limit.used""",
    "I14 a hold takes more than nothing from a limit": """
        SELECT hold_id, limit_id, amount FROM {hold_limit} WHERE amount <= 0""",
}
_PACKED = {
    "I4 what names a hold's lots can be read": ("lots", (AN_ID, AN_AMOUNT)),
    "I14 what a hold took of limits can be read": (
        "limits",
        (AN_ID, AN_AMOUNT, A_COUNT, Truth()),
    ),
}
_DEBTORS = "I5 a debt is its account's customer's"
_RECEIVABLES = """
    SELECT receivable.customer_id, ledger_account.code FROM {receivable}
      LEFT JOIN ledger_account
        ON ledger_account.id = receivable.ledger_account_id"""
_HELD = "I9 a charge that captured a hold has it"
# EXCEPT, because it is one pass on either database; SQLite would look through all holds
# for each charge.
_WITHOUT_HOLD = """
    SELECT id, reference, idempotency_key FROM {ledger_transaction}
     WHERE kind = 'charge' AND reference IN (
           SELECT reference FROM {ledger_transaction}
            WHERE kind = 'charge' AND reference LIKE 'hold:%'
           EXCEPT SELECT 'hold:' || hold.id FROM {hold})"""
_ONLY_WHOLE = frozenset(
    {
        "I5 what customers owe is what was booked on it",
        "I5 a lot's remainder is what was booked on it less what is held",
        "I14 what holds took is counted in their limits",
    }
)
"""No index leads from an account of the house, a lot or a limit to all that was booked."""
INVARIANTS = (*_PACKED, *_CHECKS, _DEBTORS, _HELD)


async def audit_credits(
    session: ReadSession | WriteSession, scope: Scope = EVERYTHING
) -> list[Finding]:
    """Every broken invariant of grants, holds and limits in the scope."""
    dialect = session.get_bind().dialect.name
    # Their patterns have braces of their own.
    readable = {
        invariant: f"SELECT id, {column} FROM {scope.within('{hold}')} WHERE "  # noqa: S608  # our own words
        + is_malformed(dialect, f"hold.{column}", members)
        for invariant, (column, members) in _PACKED.items()
    }
    checks = scope.checks(_CHECKS, only_whole=_ONLY_WHOLE)
    asked = Checks({**readable, **checks.queries}, checks.values)
    debtors, held = scope.within(_RECEIVABLES), scope.within(_WITHOUT_HOLD)
    return [
        *await run_checks(session, asked),
        *await run_by_row(session, _DEBTORS, debtors, _is_of_another, scope.values),
        *await run_by_row(session, _HELD, held, _captured_one, scope.values),
    ]


def _is_of_another(row: RowMapping) -> bool:
    """SQL cannot spell an id, and the account's code is all that says whose it is."""
    return bool(row["code"] != chart.receivable(row["customer_id"]).code)


def _captured_one(row: RowMapping) -> bool:
    """Only a charge's key says that its reference is to a hold, and no name alike."""
    return hold_behind(row["reference"], row["idempotency_key"]) is not None
