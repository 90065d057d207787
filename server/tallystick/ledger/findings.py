"""What an audit finds: the first row that breaks an invariant."""

from dataclasses import dataclass

from tallystick.kernel.db import ReadSession, WriteSession, query


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken invariant and the first row that shows it."""

    invariant: str
    detail: str


async def run_checks(
    session: ReadSession | WriteSession, checks: dict[str, str]
) -> list[Finding]:
    """A finding for each query that returns a row, naming the first one."""
    findings: list[Finding] = []
    for invariant, sql in checks.items():
        rows = await query(session, sql + " LIMIT 1")
        findings += [
            Finding(invariant, f"first broken row: {dict(row)}") for row in rows
        ]
    return findings
