"""A report on an address, in plain words and as a verdict, by rules alone."""

from typing import Literal, TypedDict

from tallystick.samples.context import FeatureContext, show_address
from tallystick.samples.contract import ContractFacts, read_contract, show_amount
from tallystick.samples.rules import Risk, judge
from tallystick.samples.trades import Window, recent_transfers

Kind = Literal["wallet", "contract", "token"]


class AnalystReport(TypedDict):
    """What was found; ``report`` tells the same in sentences.

    ``recent_transfers`` counts the token's own, or those of a wallet in the payment
    token, within the last ``blocks_searched`` blocks. A wallet has no ``risk``.
    """

    address: str
    kind: Kind
    code_size_bytes: int
    native_balance_wei: str
    name: str | None
    symbol: str | None
    decimals: int | None
    total_supply: str | None
    owner: str | None
    is_paused: bool | None
    recent_transfers: int
    blocks_searched: int
    risk: Risk | None
    report: str
    notes: list[str]


async def analyse(context: FeatureContext, address: bytes) -> AnalystReport:
    """Read the address and judge it; raises ``RpcUnavailable``."""
    facts = await read_contract(context.chain, address)
    wei = await context.chain.native_balance(address)
    moved = await _movements(context, facts)
    risk = judge(facts) if facts.is_contract else None
    return AnalystReport(
        address=show_address(address),
        kind=_kind(facts),
        code_size_bytes=len(facts.code),
        native_balance_wei=str(wei),
        name=facts.name,
        symbol=facts.symbol,
        decimals=facts.decimals,
        total_supply=None if facts.supply is None else str(facts.supply),
        owner=facts.shown_owner,
        is_paused=facts.is_paused,
        recent_transfers=len(moved.logs),
        blocks_searched=moved.blocks,
        risk=risk,
        report=" ".join(_sentences(facts, wei, moved, risk)),
        notes=facts.notes if facts.is_contract else [],
    )


async def _movements(context: FeatureContext, facts: ContractFacts) -> Window:
    """Transfers of the token, or of the payment token from and to the address."""
    if facts.is_token:
        return await recent_transfers(context, facts.address)
    usdc = context.chain.token
    sent = await recent_transfers(context, usdc, payer=facts.address)
    received = await recent_transfers(context, usdc, pay_to=facts.address)
    return Window(sent.logs + received.logs, min(sent.blocks, received.blocks))


def _kind(facts: ContractFacts) -> Kind:
    if not facts.is_contract:
        return "wallet"
    return "token" if facts.is_token else "contract"


def _sentences(
    facts: ContractFacts, wei: int, moved: Window, risk: Risk | None
) -> list[str]:
    ether = show_amount(wei, 18)
    found = [
        f"{show_address(facts.address)} {_what(facts)}",
        f"It holds {ether} ether.",
    ]
    what = "of this token" if facts.is_token else "in the payment token"
    found.append(
        f"There were {len(moved.logs)} transfers {what} in {moved.blocks} blocks."
    )
    if facts.owner is not None:
        has_owner = any(facts.owner)
        shown = f"Its owner is {facts.shown_owner}."
        found.append(shown if has_owner else "Its ownership was given up.")
    if risk is None:
        return found
    return [*found, *risk["findings"], f"The risk is {risk['level']}."]


def _what(facts: ContractFacts) -> str:
    if not facts.is_contract:
        return "is a wallet: no code is stored there."
    size = f"{len(facts.code)} bytes of code"
    if not facts.is_token:
        return f"is a contract with {size}, and no token."
    supply = show_amount(facts.supply or 0, facts.decimals or 0)
    # The name is the contract's own word; quotes keep it apart from ours.
    return f"is a token that calls itself {facts.name!r}, with {size}, {supply} issued."
