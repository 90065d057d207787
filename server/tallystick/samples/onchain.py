"""What the catalog ``x402_credits`` sells: looks at tokens and wallets on the chain.

Real work, read over RPC from whatever chain the context points at. Each feature takes
the context and its own arguments by name, and returns JSON-ready values: amounts are
strings, because they have up to 256 bits. A bad argument raises
``InvalidFeatureArgument`` naming the field; a hostile contract gives notes, never an
exception; a chain that cannot be reached raises ``RpcUnavailable``, one that is too
slow ``FeatureTimedOut``, and neither is charged.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypedDict, TypeVar

from tallystick.chain.together import together
from tallystick.samples.analyst import AnalystReport, analyse
from tallystick.samples.context import (
    FeatureContext,
    FeatureTimedOut,
    parse_address,
    show_address,
)
from tallystick.samples.contract import read_contract
from tallystick.samples.honeypot import HoneypotReport, check_honeypot
from tallystick.samples.portfolio import (
    PortfolioReport,
    parse_tokens,
    read_holding,
    summarise,
)
from tallystick.samples.rules import Risk, judge

T = TypeVar("T")


class RiskReport(TypedDict):
    """What a token's keepers can do to its holders, by rules of thumb."""

    token: str
    name: str | None
    symbol: str | None
    owner: str | None
    is_upgradeable: bool
    risk: Risk
    notes: list[str]


async def honeypot_check(context: FeatureContext, *, token: str) -> HoneypotReport:
    """Can those who received the token lately send it back where it came from?

    Rehearsed by ``eth_call`` for up to five of them; nothing is sent.
    """
    address = parse_address("token", token)
    return await _in_time(context, check_honeypot(context, address))


async def risk_score(context: FeatureContext, *, token: str) -> RiskReport:
    """What the token's keepers can do to its holders: mint, freeze, pause, replace."""
    address = parse_address("token", token)
    facts = await _in_time(context, read_contract(context.chain, address))
    return RiskReport(
        token=show_address(address),
        name=facts.name,
        symbol=facts.symbol,
        owner=facts.shown_owner,
        is_upgradeable=facts.implementation is not None,
        risk=judge(facts),
        notes=facts.notes,
    )


async def ai_analyst(context: FeatureContext, *, address: str) -> AnalystReport:
    """A report on a wallet, contract or token, in plain words and as a verdict.

    The analyst is a set of rules: no language model, no outside service. The same
    chain gives the same report. The name is the one that the catalog sells it under.
    """
    found = parse_address("address", address)
    return await _in_time(context, analyse(context, found))


async def portfolio_audit(
    context: FeatureContext, *, owner: str, tokens: list[str]
) -> PortfolioReport:
    """What the owner holds of each token, and how far each token can be trusted.

    One to a hundred tokens, each named once.
    """
    holder = parse_address("owner", owner)
    addresses = parse_tokens(tokens)
    reads = [read_holding(context, holder, address) for address in addresses]
    holdings = await _in_time(context, together(reads, context.at_once))
    return summarise(holder, holdings)


async def _in_time(context: FeatureContext, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(context.timeout_seconds):
            return await work
    except TimeoutError as error:
        limit = context.timeout_seconds
        raise FeatureTimedOut(f"it took longer than {limit:g} seconds") from error
