"""What the node does wrong in ``payments``, counted, and never twice the same."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tallystick.chain.fault import (
    ANY,
    Delay,
    DropAfter,
    DropBefore,
    ErrorAnswer,
    FaultProxy,
    Rewrite,
    Stale,
)
from tallystick.chain.faults import Answer, Fault, Forward
from tallystick.x402.keccak import keccak256

_METHODS = (
    "eth_blockNumber",
    "eth_call",
    "eth_chainId",
    "eth_estimateGas",
    "eth_feeHistory",
    "eth_getBalance",
    "eth_getBlockByNumber",
    "eth_getLogs",
    "eth_getTransactionByHash",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
    "eth_sendRawTransaction",
)
# Lies that one node alone cannot get believed: they only make it useless. Against logs
# that it withholds or makes up, a server with one node has no remedy.
_LIES = {
    "eth_chainId": "0x1",
    "eth_feeHistory": None,
    "eth_getBalance": "many",
    "eth_getBlockByNumber": None,
    "eth_getLogs": None,
    "eth_getTransactionByHash": None,
    "eth_getTransactionCount": None,
    "eth_getTransactionReceipt": None,
}
_REFUSALS = (
    "internal error",
    "transaction underpriced",
    "txpool is full",
    "insufficient funds for gas * price + value",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swallow(Fault):
    """The node takes a transaction, says so, and forgets it."""

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        raw: str = request["params"][0]
        return {"result": "0x" + keccak256(bytes.fromhex(raw[2:])).hex()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted(Fault):
    """Another fault, and how often it struck."""

    fault: Fault
    struck: Counter[str]

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        self.struck[type(self.fault).__name__] += 1
        return await self.fault.apply(request, forward)


@dataclass
class Menu:
    """Injects one kind of trouble after the other."""

    proxy: FaultProxy
    chance: random.Random
    struck: Counter[str]

    def inject(self, method: str, fault: Fault, probability: float) -> None:
        one = Counted(fault=fault, struck=self.struck, probability=probability)
        self.proxy.inject(method, one)

    def some(self) -> str:
        """One of the troubles; in words."""
        kinds = (self.everywhere, self.at_some, self.lie, self.lag, self.lose, self.no)
        return self.chance.choice(kinds)()

    def everywhere(self) -> str:
        """Three in ten of all requests, whatever their method."""
        # One after the other: each strikes what those before it let through.
        for fault, probability in (
            (DropBefore(), 0.1),
            (DropAfter(), 0.11),
            (ErrorAnswer(), 0.125),
        ):
            self.inject(ANY, fault, probability)
        return "30 % of every method"

    def at_some(self) -> str:
        methods = self.chance.sample(_METHODS, 3)
        for method in methods:
            seconds = self.chance.uniform(0.1, 6)
            faults = (DropBefore(), DropAfter(), ErrorAnswer(), Delay(seconds=seconds))
            self.inject(method, self.chance.choice(faults), 0.5)
        return f"half of {', '.join(methods)}"

    def lie(self) -> str:
        methods = self.chance.sample(sorted(_LIES), 3)
        for method in methods:
            word = _LIES[method]
            self.inject(method, Rewrite(change=lambda _, word=word: word), 0.5)  # type: ignore[misc]  # a default binds it
        return f"lies of {', '.join(methods)}"

    def lag(self) -> str:
        blocks = self.chance.randint(1, 20)
        self.inject(ANY, Stale(blocks=blocks), 1.0)
        return f"{blocks} blocks behind"

    def lose(self) -> str:
        self.inject("eth_sendRawTransaction", Swallow(), 0.5)
        return "half of the broadcasts are lost"

    def no(self) -> str:
        message = self.chance.choice(_REFUSALS)
        self.inject("eth_sendRawTransaction", ErrorAnswer(message=message), 0.5)
        return f"half of the broadcasts are refused: {message}"
