"""What may become of a request at the paywall."""

from dataclasses import dataclass
from typing import Any

from tallystick.kernel.money import MicroCredits, to_decimal
from tallystick.metering.charges import Charge, Usage
from tallystick.paywall.answer import Answer
from tallystick.paywall.answers import AnswerKey
from tallystick.paywall.challenges import Challenge
from tallystick.x402.challenge import render_payment_response
from tallystick.x402.networks import NETWORKS


@dataclass(frozen=True, slots=True)
class PaidBy:
    """How the payment that came with a request was used.

    ``tx_hash`` and ``usdc`` are those of its settlement, None and 0 when it was waived.
    """

    payer: bytes
    network: str
    version: int
    tx_hash: bytes | None = None
    usdc: int = 0

    def response_header(self, charged: Charge) -> tuple[str, str]:
        """The header that tells the client what became of its payment."""
        name = "PAYMENT-RESPONSE" if self.version == 2 else "X-PAYMENT-RESPONSE"
        network = self.network
        if self.version == 1:
            network = NETWORKS[self.network].v1_name
        return name, render_payment_response(
            success=True,
            # Stock clients take an empty hash and "0" for a waived payment.
            transaction="" if self.tx_hash is None else f"0x{self.tx_hash.hex()}",
            network=network,
            payer=self.payer,
            amount=self.usdc,
            extra=_credits(charged),
        )


def _credits(charged: Charge) -> dict[str, Any]:
    return {
        "credits": {
            "charged": f"{to_decimal(charged.deducted):f}",
            "remaining": f"{to_decimal(charged.balance_after):f}",
        }
    }


@dataclass(frozen=True, slots=True)
class Serve:
    """Go ahead. Nothing is charged until ``finish`` captures the hold.

    ``hold_id`` is None for what costs nothing. ``answer_keys`` say where the answer is
    to be kept: for the payment that was waived, for the caller's Idempotency-Key.
    """

    usage: Usage | None
    hold_id: int | None
    paid_by: PaidBy | None = None
    answer_keys: tuple[AnswerKey, ...] = ()

    @property
    def price(self) -> MicroCredits:
        return self.usage.price if self.usage is not None else MicroCredits(0)


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that the first copy of this request got."""

    answer: Answer


Verdict = Serve | Challenge | Replay
