"""What must hold between uses and charges.

The numbers are those of docs/invariants.md.
"""

from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.ledger.findings import Finding, run_checks
from tallystick.ledger.scope import EVERYTHING, Scope

# Both are read once, in the order of the ids that they share.
_CHECKS = {
    "I17 a use is what its customer was charged for": """
        SELECT usage_event.id, usage_event.customer_id, usage_event.credits,
               usage_event.feature, ledger_transaction.kind, debit.customer_id AS charged,
               transfer.amount, credit.code
          FROM {usage_event}
          LEFT JOIN ledger_transaction ON ledger_transaction.id = usage_event.id
          LEFT JOIN transfer ON transfer.ledger_transaction_id = usage_event.id
          LEFT JOIN ledger_account AS debit ON debit.id = transfer.debit_account_id
          LEFT JOIN ledger_account AS credit ON credit.id = transfer.credit_account_id
         WHERE COALESCE(ledger_transaction.kind, '') <> 'charge'
            OR COALESCE(transfer.amount, -1) <> usage_event.credits
            OR COALESCE(debit.customer_id, -1) <> usage_event.customer_id
            OR COALESCE(credit.code, '') <> 'revenue:feature:' || usage_event.feature""",
    "I17 every charge has its use": """
        SELECT ledger_transaction.id FROM {ledger_transaction}
         WHERE kind = 'charge'
           AND NOT EXISTS (SELECT 1 FROM usage_event
                            WHERE usage_event.id = ledger_transaction.id)""",
}
INVARIANTS = tuple(_CHECKS)


async def audit_metering(
    session: ReadSession | WriteSession, scope: Scope = EVERYTHING
) -> list[Finding]:
    """Every use in the scope that is not its charge's, and charge without one."""
    return await run_checks(session, scope.checks(_CHECKS))
