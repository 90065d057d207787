"""What a look at the installation found, line by line."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should look at it."""
    PROBLEM = "problem"
    """Payments fail, or money may be lost."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what is so, and what to do about it."""

    check: str
    verdict: Verdict
    said: str
    next_step: str | None = None

    def document(self) -> dict[str, Any]:
        """As the JSON report has it."""
        return {
            "check": self.check,
            "verdict": self.verdict.value,
            "said": self.said,
            "next_step": self.next_step,
        }


@dataclass(slots=True)
class Examination:
    """Collects findings and tells each at once, for a slow node takes its time.

    ``looking`` is told what is being asked before the answer is there.
    """

    tell: Callable[[Finding], None]
    looking: Callable[[str], None]
    findings: list[Finding] = field(default_factory=list)

    def ok(self, check: str, said: str) -> None:
        self._add(Finding(check, Verdict.OK, said))

    def warn(self, check: str, said: str, next_step: str) -> None:
        self._add(Finding(check, Verdict.WARNING, said, next_step))

    def problem(self, check: str, said: str, next_step: str) -> None:
        self._add(Finding(check, Verdict.PROBLEM, said, next_step))

    def refused(self, check: str, problems: list[str]) -> None:
        """Problems as ``boot`` words them: what is wrong, a colon, the remedy."""
        for said, step in map(_parted, problems):
            self.problem(check, said, step)

    def noted(self, check: str, remarks: list[str]) -> None:
        """What works in the same words."""
        for said, step in map(_parted, remarks):
            self.warn(check, said, step)

    def count(self, verdict: Verdict) -> int:
        return sum(one.verdict == verdict for one in self.findings)

    def count_of(self, check: str) -> int:
        """How many lines of this check there are."""
        return sum(one.check == check for one in self.findings)

    def document(self) -> dict[str, Any]:
        """The report; ``ok`` is whether nothing is a problem."""
        return {
            "ok": self.count(Verdict.PROBLEM) == 0,
            "problems": self.count(Verdict.PROBLEM),
            "warnings": self.count(Verdict.WARNING),
            "findings": [one.document() for one in self.findings],
        }

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.tell(finding)


def _parted(text: str) -> tuple[str, str]:
    said, _, remedy = text.partition(": ")
    step = remedy[:1].upper() + remedy[1:]
    return said, step or "Correct it and ask again."
