"""What an owner holds of each token, and how far each token can be trusted."""

from typing import TypedDict

from tallystick.samples.context import (
    FeatureContext,
    InvalidFeatureArgument,
    parse_address,
    show_address,
)
from tallystick.samples.contract import read_balance, read_contract, show_amount
from tallystick.samples.rules import Risk, judge

TOKENS_LIMIT = 100


class Holding(TypedDict):
    """One token; ``balance`` in its atomic units, ``amount`` with its decimal point.

    Both are None when the token gives no balance.
    """

    token: str
    name: str | None
    symbol: str | None
    balance: str | None
    amount: str | None
    risk: Risk
    notes: list[str]


class PortfolioReport(TypedDict):
    """The holdings in the order asked for."""

    owner: str
    holdings: list[Holding]
    tokens_held: int
    high_risk_tokens: int


def parse_tokens(tokens: object) -> list[bytes]:
    """One to a hundred different addresses; raises ``InvalidFeatureArgument``."""
    if not isinstance(tokens, list):
        raise InvalidFeatureArgument("tokens", "is no list of addresses")
    if not 1 <= len(tokens) <= TOKENS_LIMIT:
        problem = f"has {len(tokens)} entries, not 1 to {TOKENS_LIMIT}"
        raise InvalidFeatureArgument("tokens", problem)
    found: list[bytes] = []
    for index, text in enumerate(tokens):
        address = parse_address(f"tokens[{index}]", text)
        if address in found:
            raise InvalidFeatureArgument(f"tokens[{index}]", "is named twice")
        found.append(address)
    return found


async def read_holding(context: FeatureContext, owner: bytes, token: bytes) -> Holding:
    """One line of the portfolio; raises ``RpcUnavailable``."""
    facts = await read_contract(context.chain, token)
    held = await read_balance(context.chain, token, owner) if facts.is_token else None
    notes = facts.notes
    if facts.is_token and held is None:
        notes.append("It does not say what the owner has.")
    return Holding(
        token=show_address(token),
        name=facts.name,
        symbol=facts.symbol,
        balance=None if held is None else str(held),
        amount=None if held is None else show_amount(held, facts.decimals or 0),
        risk=judge(facts),
        notes=notes,
    )


def summarise(owner: bytes, holdings: list[Holding]) -> PortfolioReport:
    """The report over all lines."""
    return PortfolioReport(
        owner=show_address(owner),
        holdings=holdings,
        tokens_held=sum(item["balance"] not in (None, "0") for item in holdings),
        high_risk_tokens=sum(item["risk"]["level"] == "high" for item in holdings),
    )
