"""What must hold between the customers and the ledger.

The numbers are those of docs/invariants.md.
"""

from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.ledger.findings import Finding, run_checks
from tallystick.ledger.scope import EVERYTHING, Scope, listed, part

_CHECKS = {
    "I3 a customer's account has its customer": """
        SELECT ledger_account.id, ledger_account.customer_id FROM {ledger_account}
         WHERE ledger_account.customer_id IS NOT NULL
           AND NOT EXISTS (SELECT 1 FROM customer
                            WHERE customer.id = ledger_account.customer_id)""",
    "I3 a wallet has its customer": """
        SELECT wallet.customer_id FROM {wallet}
         WHERE NOT EXISTS (SELECT 1 FROM customer
                            WHERE customer.id = wallet.customer_id)""",
}
INVARIANTS = tuple(_CHECKS)


def customers_scope(scope: Scope, dialect: str) -> Scope:
    """The scope with the wallets of its accounts' customers."""
    customers = (
        "SELECT customer_id FROM ledger_account"  # noqa: S608  # our own words
        f" WHERE id IN ({listed(dialect, 'accounts')}) AND customer_id IS NOT NULL"
    )
    wallets = part("wallet", f"customer_id IN ({customers})")
    return scope.with_parts({"wallet": wallets}, {})


async def audit_customers(
    session: ReadSession | WriteSession, scope: Scope = EVERYTHING
) -> list[Finding]:
    """Every account and wallet in the scope whose customer is gone."""
    return await run_checks(session, scope.checks(_CHECKS))
