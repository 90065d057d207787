"""What is told to people as it goes, and what is kept for machines."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.text import Text

from tallystick.kernel.money import USDC_SCALE, format_credits, to_decimal

_LEFT = 38


@dataclass
class Record:
    """The story as one JSON object; its numbers are exact."""

    payments: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    audit: dict[str, Any] = field(
        default_factory=lambda: {"ok": False, "ledger_usdc": None, "chain_usdc": None}
    )
    error: str | None = None

    def paid(self, tx: str, usdc: int, credits_micro: int) -> None:
        """A payment that was settled, and what it bought."""
        self.payments.append(
            {
                "tx": tx,
                "amount_usdc": to_decimal(usdc, USDC_SCALE),
                "credits": to_decimal(credits_micro),
            }
        )

    def called(
        self, feature: str, status: int, charged: Decimal, remaining: Decimal | None
    ) -> None:
        """An answer to a call; ``remaining`` is None where none is told."""
        self.calls.append(
            {
                "feature": feature,
                "status": status,
                "charged": charged,
                "remaining": remaining,
            }
        )

    def document(self) -> dict[str, Any]:
        """The object to print; ``error`` is there only when something went wrong."""
        found: dict[str, Any] = {
            "payments": self.payments,
            "calls": self.calls,
            "audit": self.audit,
        }
        return found if self.error is None else found | {"error": self.error}


class Teller:
    """Tells the story on a console, plainly where that is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def title(self, text: str) -> None:
        """What this is."""
        self._show(Text(text, style="bold"))

    def act(self, text: str) -> None:
        """A new part of the story."""
        self._show(Text(f"\n{text}", style="bold cyan"))

    def line(self, left: str, right: str, style: str = "") -> None:
        """What happened, and what came of it."""
        told = Text(f"  {left:<{_LEFT}}  ")
        told.append(right, style=style)
        self._show(told)

    def note(self, text: str) -> None:
        """A remark below the last line."""
        self._show(Text(f"  {'':<{_LEFT}}  {text}", style="dim"))

    def good(self, text: str) -> None:
        """What was proven."""
        self._show(Text(text, style="bold green"))

    def bad(self, text: str) -> None:
        """What is broken."""
        self._show(Text(text, style="bold red"))

    def plain(self, text: str) -> None:
        """Text to be copied."""
        self._show(Text(text))

    def _show(self, told: Text) -> None:
        # A hash or an address must stay in one piece, to be copied.
        self._console.print(told, soft_wrap=True)


def credits_of(micro: int) -> str:
    """Credits with their unit: ``1 credit``, ``4.5 credits``."""
    return f"{format_credits(micro)} credit{'' if micro == 1_000_000 else 's'}"


def short(text: str) -> str:
    """A hash or address, recognisable at a glance."""
    return f"{text[:8]}…{text[-4:]}"
