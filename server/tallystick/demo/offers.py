"""A 402 as a client reads it."""

from binascii import a2b_base64
from dataclasses import dataclass
from typing import Any

import httpx

from tallystick.demo.errors import expect
from tallystick.kernel import json
from tallystick.kernel.money import format_usdc, parse_credits


@dataclass(frozen=True, slots=True)
class Offered:
    """The entries of ``accepts`` in their order, and what the call costs.

    ``required`` is micro-credits; 0 where nothing but credits is bought.
    """

    accepts: list[dict[str, Any]]
    extensions: dict[str, Any]
    required: int

    @property
    def amounts(self) -> list[int]:
        """What each entry asks for, in atomic USDC."""
        return [int(entry["amount"]) for entry in self.accepts]

    @property
    def shown(self) -> str:
        """The amounts in words."""
        return "pay " + " or ".join(format_usdc(one) for one in self.amounts)


def read_offer(answer: httpx.Response) -> Offered:
    """The offer of a 402; raises ``StoryBroke`` for any other answer."""
    expect(f"{answer.request.url.path} unpaid answers", answer.status_code, 402)
    header = json.loads(a2b_base64(answer.headers["payment-required"]))
    problem = json.loads(answer.content)
    required = problem.get("required", 0)
    return Offered(
        header["accepts"], header.get("extensions", {}), parse_credits(required)
    )
