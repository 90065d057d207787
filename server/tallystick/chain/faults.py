"""The ways in which a node fails, one small class each.

A fault strikes ``times`` requests (None: until healed), each with a probability.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

_OF_STATE = ("eth_call", "eth_getBalance", "eth_getTransactionCount", "eth_getCode")
Answer = dict[str, Any]
Forward = Callable[[dict[str, Any]], Awaitable[Answer]]


class Cut(Exception):
    """The connection breaks without an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Passes the request on unharmed; what every fault begins with."""

    times: int | None = None
    probability: float = 1.0

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        """The JSON-RPC answer to the request, or ``Cut``."""
        return await forward(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropBefore(Fault):
    """The request never reaches the node."""

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        raise Cut


@dataclass(frozen=True, slots=True, kw_only=True)
class DropAfter(Fault):
    """The node acts on the request; its answer is lost."""

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        await forward(request)
        raise Cut


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer(Fault):
    """The node refuses, in its own words; the request has no effect."""

    code: int = -32000
    message: str = "internal error"

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        return {"error": {"code": self.code, "message": self.message}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay(Fault):
    """The request waits so many seconds on its way to the node."""

    seconds: float

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        await asyncio.sleep(self.seconds)
        return await forward(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite(Fault):
    """The node lies: ``change`` makes another result of the true one."""

    change: Callable[[Any], Any]

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        answer = await forward(request)
        if "result" not in answer:
            return answer
        return {"result": self.change(answer["result"])}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale(Fault):
    """The node is so many blocks behind and knows nothing of the later ones.

    Inject it for every method. It answers as real nodes do: an unknown block is null,
    its state is an error, and logs of a range beyond its head are missing without a word.
    """

    blocks: int

    async def apply(self, request: dict[str, Any], forward: Forward) -> Answer:
        asked = {"jsonrpc": "2.0", "id": 0, "method": "eth_blockNumber", "params": []}
        newest = int((await forward(asked))["result"], 16)
        head = max(newest - self.blocks, 0)
        if request["method"] == "eth_blockNumber":
            return {"result": hex(head)}
        params = _at_head(request.get("params", []), hex(head))
        if request["method"] in _OF_STATE and _height(params[-1]) > head:
            return {"error": {"code": -32000, "message": "header not found"}}
        answer = await forward({**request, "params": params})
        if "result" in answer:
            answer = {"result": _without_later(answer["result"], head)}
        return answer


def _height(block: Any) -> int:
    """Of a block that is named by its number; 0 for one named otherwise."""
    is_number = isinstance(block, str) and block.startswith("0x") and len(block) < 66
    return int(block, 16) if is_number else 0


def _at_head(value: Any, head: str) -> Any:
    """The parameters with the stale head in place of the tags for the newest block."""
    if isinstance(value, dict):
        return {name: _at_head(item, head) for name, item in value.items()}
    if isinstance(value, list):
        return [_at_head(item, head) for item in value]
    return head if value in ("latest", "pending") else value


def _without_later(result: Any, head: int) -> Any:
    """The result without blocks, logs and receipts from beyond the stale head."""
    if isinstance(result, list):
        return [item for item in result if _without_later(item, head) is not None]
    if isinstance(result, dict):
        height = result.get("blockNumber", result.get("number"))
        if isinstance(height, str) and int(height, 16) > head:
            return None
    return result
