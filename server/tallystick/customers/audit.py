"""What must hold between the customers and the ledger.

The numbers are those of docs/invariants.md.
"""

from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.ledger.findings import Finding, run_checks

_CHECKS = {
    "I3 a customer's account has its customer": """
        SELECT ledger_account.id, ledger_account.customer_id FROM ledger_account
         WHERE ledger_account.customer_id IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM customer
                            WHERE customer.id = ledger_account.customer_id)""",
    "I3 a wallet has its customer": """
        SELECT wallet.customer_id FROM wallet
         WHERE NOT EXISTS (SELECT 1 FROM customer
                            WHERE customer.id = wallet.customer_id)""",
}
INVARIANTS = tuple(_CHECKS)


async def audit_customers(session: ReadSession | WriteSession) -> list[Finding]:
    """Every account and wallet whose customer is gone; empty when there is none."""
    return await run_checks(session, _CHECKS)
