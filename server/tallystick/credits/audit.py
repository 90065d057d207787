"""What must hold between holds, grants and the ledger.

The numbers are those of docs/invariants.md.
"""

from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.ledger.audit import Finding, run_checks

_CHECKS = {
    "I4 held equals the sum of open holds": """
        SELECT ledger_account.customer_id, account_balance.held,
               COALESCE(held_open.amount, 0)
          FROM account_balance
          JOIN ledger_account ON ledger_account.id = ledger_account_id
          LEFT JOIN (SELECT customer_id, SUM(amount) AS amount FROM hold
                      WHERE state = 'open' GROUP BY customer_id) AS held_open
            ON held_open.customer_id = ledger_account.customer_id
         WHERE account_balance.held <> COALESCE(held_open.amount, 0)""",
    "I4 every open hold has a balance to stand on": """
        SELECT hold.id, hold.customer_id FROM hold
         WHERE hold.state = 'open'
           AND NOT EXISTS (
               SELECT 1 FROM ledger_account
                 JOIN account_balance ON ledger_account_id = ledger_account.id
                WHERE ledger_account.customer_id = hold.customer_id)""",
    "I5 every credit from outside is a grant": """
        SELECT booked.ledger_transaction_id, booked.customer_id, booked.amount,
               credit_grant.amount
          FROM (SELECT entry.ledger_transaction_id, ledger_account.customer_id,
                       SUM(entry.amount) AS amount
                  FROM entry
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
          FROM credit_grant
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
          FROM credit_grant
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
        SELECT id, state FROM hold
         WHERE (state = 'open') <> (settled_at_ms IS NULL)""",
    "I9 every captured hold has its charge": """
        SELECT hold.id, hold.captured FROM hold
          LEFT JOIN ledger_transaction
            ON ledger_transaction.reference = 'hold:' || hold.id
           AND ledger_transaction.kind = 'charge'
          LEFT JOIN transfer
            ON transfer.ledger_transaction_id = ledger_transaction.id
         WHERE hold.state = 'captured'
           AND COALESCE(transfer.amount, -1) <> hold.captured""",
    "I9 nothing is charged for a hold that was not captured": """
        SELECT hold.id, hold.state, hold.captured FROM hold
          LEFT JOIN ledger_transaction
            ON ledger_transaction.reference = 'hold:' || hold.id
           AND ledger_transaction.kind = 'charge'
         WHERE hold.state <> 'captured'
           AND (hold.captured <> 0 OR ledger_transaction.id IS NOT NULL)""",
}
INVARIANTS = tuple(_CHECKS)


async def audit_credits(session: ReadSession | WriteSession) -> list[Finding]:
    """Every broken invariant of grants and holds; empty when they are sound."""
    return await run_checks(session, _CHECKS)
