"""Rules of thumb for how much a token's keepers can do to its holders.

No rule proves harm: honest dollars can be paused and frozen too. The rules say what is
possible, and the score adds up how much.
"""

from dataclasses import dataclass
from typing import Literal, TypedDict

from tallystick.chain.abi import selector
from tallystick.samples.contract import ContractFacts

Level = Literal["low", "medium", "high"]
MEDIUM_SCORE = 25
HIGH_SCORE = 60
_PUSH4 = b"\x63"


class Risk(TypedDict):
    """The sum of what was found: 0 to 100, its level, and the findings in words."""

    score: int
    level: Level
    findings: list[str]


@dataclass(frozen=True, slots=True)
class _Power:
    """Something that code can do, by the functions that do it."""

    finding: str
    weight: int
    selectors: tuple[bytes, ...]


def _power(finding: str, weight: int, *signatures: str) -> _Power:
    return _Power(finding, weight, tuple(selector(item) for item in signatures))


_POWERS = (
    _power(
        "More of it can be made at will.",
        15,
        "mint(address,uint256)",
        "mint(uint256)",
        "issue(uint256)",
    ),
    _power("All transfers can be stopped.", 15, "pause()", "setPaused(bool)"),
    _power(
        "Single holders can be frozen.",
        15,
        "blacklist(address)",
        "addBlackList(address)",
        "setBlacklist(address,bool)",
        "freeze(address)",
    ),
    _power(
        "What holders have can be taken.",
        30,
        "destroyBlackFunds(address)",
        "forceTransfer(address,address,uint256)",
        "burn(address,uint256)",
    ),
    _power(
        "A fee on transfers can be set.",
        20,
        "setFee(uint256)",
        "setTaxes(uint256,uint256)",
        "setParams(uint256,uint256)",
        "setTaxFeePercent(uint256)",
    ),
    _power(
        "Trading can be switched on and off.",
        20,
        "enableTrading()",
        "setTradingEnabled(bool)",
        "setMaxTxAmount(uint256)",
        "setMaxWallet(uint256)",
    ),
)


def judge(facts: ContractFacts) -> Risk:
    """What the rules find in the contract; the same facts give the same verdict."""
    if not facts.is_contract:
        return _risk([("There is no contract: nothing can be held here.", 100)])
    found = [
        (power.finding, power.weight)
        for power in _POWERS
        if any(_PUSH4 + item in facts.code for item in power.selectors)
    ]
    if not facts.is_token:
        found.append(("It is no EIP-20 token.", 60))
    if facts.implementation is not None:
        found.append(("Its code can be replaced: it is a proxy.", 20))
    if facts.is_paused:
        found.append(("It is paused now: nobody can transfer.", 30))
    if facts.is_token and facts.decimals is None:
        found.append(("It does not say how many decimals it has.", 10))
    if found and facts.owner is not None and any(facts.owner):
        found.append(("One owner holds these powers.", 10))
    return _risk(found)


def _risk(found: list[tuple[str, int]]) -> Risk:
    score = min(sum(weight for _, weight in found), 100)
    level: Level = "low"
    if score >= MEDIUM_SCORE:
        level = "high" if score >= HIGH_SCORE else "medium"
    return Risk(score=score, level=level, findings=[finding for finding, _ in found])
