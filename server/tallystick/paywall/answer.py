"""An answer as it was given, and the one that tells of a charge."""

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import format_credits
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
    charge = f'"{encode_id("chg", charged.id)}"' if charged.id else "null"
    left = format_credits(charged.balance_after)
    taken = format_credits(charged.deducted)
    # Every charge is told, so this is written out; nothing in it needs to be escaped.
    told = f'{{"success":true,"credits":{left},"deducted":{taken},"charge":{charge}}}'
    headers = [*_HEADERS, ("Credits-Charged", taken), ("Credits-Remaining", left)]
    return Answer(200, [*headers, *more], told.encode())


_HEADERS = (("content-type", "application/json"), *NO_STORE.items())
