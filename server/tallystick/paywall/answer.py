"""An answer as it was given, and the one that tells of a charge."""

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.kernel import json
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import format_credits, to_decimal
from tallystick.metering.charges import Charge

NO_STORE = {"Cache-Control": "no-store, private", "Vary": "*"}
"""A paid answer, or a 402 with a quote in it, belongs in no shared cache."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was given."""

    http_status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def charge_answer(charged: Charge, *more: tuple[str, str]) -> Answer:
    """What ``POST /api/credits/deduct`` says of a charge, with ``more`` headers."""
    document = {
        "success": True,
        "credits": to_decimal(charged.balance_after),
        "deducted": to_decimal(charged.deducted),
        "charge": encode_id("chg", charged.id) if charged.id else None,
    }
    headers = [
        ("content-type", "application/json"),
        *NO_STORE.items(),
        ("Credits-Charged", format_credits(charged.deducted)),
        ("Credits-Remaining", format_credits(charged.balance_after)),
        *more,
    ]
    return Answer(200, headers, json.dumps(document))
