"""What must hold of the answers that are told from the books.

The numbers are those of docs/invariants.md. That an answer is gone is no finding: it is
forgotten after a day (``forgetting.py``).
"""

from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.ledger.findings import Finding, run_checks

_CHECKS = {
    "I8 an answer that tells of a charge names one": """
        SELECT stored_answer.owner, ledger_transaction.kind FROM stored_answer
          LEFT JOIN ledger_transaction
            ON ledger_transaction.id = stored_answer.owner
         WHERE stored_answer.state = 'charged'
           AND COALESCE(ledger_transaction.kind, '') <> 'charge'""",
    "I8 no two answers tell of the same charge": """
        SELECT owner, COUNT(*) AS answers FROM stored_answer
         WHERE state = 'charged'
         GROUP BY owner HAVING COUNT(*) > 1""",
}
INVARIANTS = tuple(_CHECKS)


async def audit_answers(session: ReadSession | WriteSession) -> list[Finding]:
    """Every answer that tells of no charge of its own; empty when there is none."""
    return await run_checks(session, _CHECKS)
