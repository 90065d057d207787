"""What the headers of an answer say about its price."""

from collections.abc import Mapping
from dataclasses import replace

from tallystick.kernel.money import format_credits
from tallystick.metering.charges import Charge
from tallystick.paywall.answer import NO_STORE, Answer
from tallystick.paywall.verdicts import Serve


def receipt_headers(serve: Serve, charged: Charge) -> dict[str, str]:
    """What was charged, what remains, and what became of the payment, if any."""
    headers = {"Credits-Charged": format_credits(charged.deducted)}
    if serve.usage is None:
        return headers
    headers["Credits-Remaining"] = format_credits(charged.balance_after)
    if serve.paid_by is not None:
        name, value = serve.paid_by.response_header(charged)
        headers[name] = value
    return headers | NO_STORE


def stamped(answer: Answer, receipt: Mapping[str, str]) -> Answer:
    """The answer with the receipt's headers in the place of its own of those names."""
    ours = {name.lower() for name in receipt}
    kept = [(name, value) for name, value in answer.headers if name.lower() not in ours]
    return replace(answer, headers=[*kept, *receipt.items()])
