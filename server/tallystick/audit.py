"""The whole audit: the books in themselves, and the books against the chain."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tallystick.kernel.db import Database, ReadSession
from tallystick.kernel.ids import made_at_ms
from tallystick.kernel.money import USDC_SCALE, to_decimal
from tallystick.ledger.findings import Finding, unstopped
from tallystick.ledger.links import BEFORE_THE_FIRST, Head
from tallystick.ledger.sealed_audit import audit_noted
from tallystick.ledger.sealing import SealedUpTo, sealed_up_to
from tallystick.payments.rail import Rail
from tallystick.payments.reconciling.reconcile import Reconciliation, reconcile
from tallystick.workers.books import audit_books


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What was found, and how far the journal is sealed.

    ``chain`` is None when only the books were audited.
    """

    findings: list[Finding]
    sealed: SealedUpTo
    chain: Reconciliation | None

    @property
    def ok(self) -> bool:
        return not self.findings

    def document(self) -> dict[str, Any]:
        """The report as JSON, USDC in dollars."""
        document: dict[str, Any] = {
            "ok": self.ok,
            "findings": [
                {"invariant": one.invariant, "detail": one.detail}
                for one in self.findings
            ],
            "seal": None,
        }
        if self.sealed.last_id is not None:
            document["seal"] = {
                "number": self.sealed.head.number,
                "digest": self.sealed.head.digest.hex(),
                "through_ms": made_at_ms(self.sealed.last_id),
            }
        if self.chain is not None:
            document |= {
                "block": self.chain.block_number,
                "ledger_usdc": to_decimal(self.chain.ledger_usdc, USDC_SCALE),
                "chain_usdc": to_decimal(self.chain.chain_usdc, USDC_SCALE),
            }
        return document


async def audit(
    db: Database, rail: Rail | None, *, noted: Iterable[Head] = ()
) -> AuditReport:
    """Every invariant, and with a rail every Transfer; nothing is written.

    ``noted`` are ends of the journal's hash chain that somebody wrote down elsewhere.
    What it cannot read is a finding and stops nothing. Raises ``RpcUnavailable`` when
    the chain cannot be asked, ``BooksOfAnotherChain`` when it is not that of these books.
    """
    async with db.snapshot() as session:
        findings = [
            *await audit_books(session),
            *await audit_noted(session, noted),
        ]
        sealed = await _sealed(session)
    compared = await reconcile(db, rail) if rail is not None else None
    if compared is not None:
        findings += compared.findings
    return AuditReport(findings, sealed, compared)


async def _sealed(session: ReadSession) -> SealedUpTo:
    """How far; nothing, if nobody can say. Then ``audit_ledger`` has found it."""
    found = [SealedUpTo(BEFORE_THE_FIRST, None, 0)]

    async def look() -> list[Finding]:
        found.append(await sealed_up_to(session))
        return []

    await unstopped(session, "how far the journal is sealed", look)
    return found[-1]
