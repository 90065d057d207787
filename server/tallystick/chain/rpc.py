"""The chain through its nodes: one used at a time, the next one when it fails.

Nodes differ in how far they have come, so answers that must fit together are asked of
one node (``Chain.of_one_node``), and one that lags far behind another counts as one
that does not answer (decision 37).

A question has three outcomes, which are never mixed up: an answer, an *error answer*
(``RpcErrorAnswer``: a revert, a limit) and no answer (``RpcUnavailable``: the outcome
is unknown). Nothing is repeated silently and nothing is cached.
"""

import asyncio
import copy
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

from aiohttp import ClientError
from web3.exceptions import Web3Exception, Web3RPCError
from web3.types import RPCEndpoint

from tallystick.chain.endpoint import AnswerTooLarge
from tallystick.chain.errors import (
    BlockNotSeen,
    RpcErrorAnswer,
    RpcUnavailable,
    WrongChain,
)
from tallystick.chain.hexadecimal import (
    Garbage,
    field,
    fixed,
    mapping,
    octets,
    quantity,
    to_hex,
)
from tallystick.chain.nodes import Node, in_turn
from tallystick.kernel.log import get_logger

_log = get_logger(__name__)
T = TypeVar("T")
Tag = Literal["latest", "safe", "finalized"]
# Web3 stumbles over some garbage in its own ways before we see it.
_NO_ANSWER = (
    Web3Exception,
    ClientError,
    OSError,
    ValueError,
    LookupError,
    RecursionError,
)
_NOT_SERVED = re.compile(
    r"rate.?limit|too many requests|request timed? ?out|no backends?|backend response"
    r"|throughput|over capacity|service unavailable|temporarily",
    re.IGNORECASE,
)
_NO_SUCH_BLOCK = re.compile(r"unknown block|not found|out ?of ?range", re.IGNORECASE)
_NESTED_DATA = re.compile(r"0x[0-9a-fA-F]*$")


@dataclass(frozen=True, slots=True)
class Block:
    """A block's identity; times are seconds since the Unix epoch."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp_seconds: int


class Chain:
    """One EVM chain and the token that we are paid in.

    ``token`` is a 20-byte address; ``timeout_seconds`` bounds each question to each
    node. Before a node is believed it must name ``chain_id``, and again after each
    failure, because its URL may by then lead elsewhere.
    """

    def __init__(
        self,
        rpc_urls: Sequence[str],
        *,
        chain_id: int,
        token: bytes,
        timeout_seconds: float = 5,
    ) -> None:
        if not rpc_urls:
            raise ValueError("a chain needs at least one RPC URL")
        if len(token) != 20:
            raise ValueError("a token's address has 20 bytes")
        self.expected_chain_id = chain_id
        self.token = token
        self._timeout_seconds = timeout_seconds
        self._nodes = [Node(url) for url in rpc_urls]
        self._peers = self._nodes

    @property
    def silent_seconds(self) -> float:
        """How long ago a node of this chain answered last; asks nobody."""
        return time.monotonic() - max(node.answered_at for node in self._nodes)

    async def close(self) -> None:
        """Close every connection."""
        for node in self._nodes:
            await node.endpoint.disconnect()

    async def of_one_node(self, questions: Callable[[Self], Awaitable[T]]) -> T:
        """What the questions find out, all of them asked of the same node.

        Without an answer to one of them, all are asked anew of the next node: one that
        lags behind would else complete what another has begun, and leave out in silence
        what it does not know. Raises what the questions raise.
        """

        async def ask(node: Node) -> T:
            return await questions(self._only(node, self._peers))

        return await self._try(ask)

    def each(self) -> Iterator[Self]:
        """Each node by itself, for who compares what they say."""
        return (self._only(node, [node]) for node in self._nodes)

    def distrust(self, *, shows_another_chain: bool) -> None:
        """Ask these nodes only while no other answers: resting would not mend them."""
        for node in self._nodes:
            is_news = shows_another_chain and not node.is_distrusted
            if is_news and len(self._peers) > 1:
                _log.error("node_of_another_chain", node=node.endpoint.host)
            node.is_distrusted = shows_another_chain

    def _only(self, node: Node, peers: list[Node]) -> Self:
        view = copy.copy(self)
        view._nodes, view._peers = [node], peers  # noqa: SLF001  # it is one of us
        return view

    async def chain_id(self) -> int:
        """What the node says its chain is, right or wrong; raises ``RpcUnavailable``."""
        return await self.ask("eth_chainId", [], quantity, prove=False)

    async def block(self, which: int | Tag) -> Block | None:
        """The block at a height or tag; None is "not known here", never "none exists".

        A node without finality answers ``safe`` and ``finalized`` with null or an
        error. Raises ``RpcUnavailable``; ``BlockNotSeen`` for the newest block of a
        node that lags, while another is known to have come further.
        """
        if which == "latest":
            return await self._newest()
        wanted = hex(which) if isinstance(which, int) else which
        found = await self._block("eth_getBlockByNumber", wanted)
        if found and isinstance(which, int) and found.number != which:
            raise RpcUnavailable(f"the node gave another block than number {which}")
        return found

    async def block_by_hash(self, block_hash: bytes) -> Block | None:
        """The block with this hash, canonical or not; raises ``RpcUnavailable``."""
        return await self._block("eth_getBlockByHash", to_hex(block_hash))

    async def code_at(self, address: bytes) -> bytes:
        """The contract's runtime code; empty for an externally owned address."""
        return await self.ask("eth_getCode", [to_hex(address), "latest"], octets)

    async def native_balance(self, address: bytes) -> int:
        """Gas money of the address, in wei."""
        return await self.ask("eth_getBalance", [to_hex(address), "latest"], quantity)

    async def nonce(
        self, address: bytes, at: Literal["latest", "pending", "finalized"]
    ) -> int:
        """The next transaction's number: by what is mined, with the pool's, or final."""
        return await self.ask(
            "eth_getTransactionCount", [to_hex(address), at], quantity
        )

    async def storage_at(self, address: bytes, slot: int) -> bytes:
        """The 32 bytes in a contract's storage slot."""
        parameters = [to_hex(address), hex(slot), "latest"]
        return await self.ask(
            "eth_getStorageAt", parameters, lambda value: fixed(value, 32)
        )

    async def call(
        self,
        to: bytes,
        calldata: bytes,
        *,
        caller: bytes | None = None,
        gas: int | None = None,
        block: int | Tag = "latest",
        timeout_seconds: float | None = None,
    ) -> bytes:
        """What the contract answers, changing nothing.

        Raises ``RpcErrorAnswer`` when it reverts, ``RpcUnavailable`` without an answer.
        """
        request: dict[str, str] = {"to": to_hex(to), "data": to_hex(calldata)}
        if caller is not None:
            request["from"] = to_hex(caller)
        if gas is not None:
            request["gas"] = hex(gas)
        wanted = hex(block) if isinstance(block, int) else block
        return await self.ask(
            "eth_call", [request, wanted], octets, timeout_seconds=timeout_seconds
        )

    async def ask(
        self,
        method: str,
        params: Sequence[Any],
        read: Callable[[Any], T],
        *,
        timeout_seconds: float | None = None,
        prove: bool = True,
    ) -> T:
        """Ask the current node, and once more the next one if there was no answer.

        ``read`` turns the JSON into a value and raises ``Garbage``, which counts as no
        answer. Asking twice is safe: what we ask changes nothing, and the same signed
        bytes are the same transaction. Raises ``RpcErrorAnswer``, ``RpcUnavailable``.
        """
        limit = timeout_seconds or self._timeout_seconds

        async def ask(node: Node) -> T:
            if prove:
                await self._prove(node, limit)
            answer = await self._ask_one(node, method, params, read, limit)
            node.answered()
            return answer

        return await self._try(ask)

    async def _newest(self) -> Block | None:
        async def ask(node: Node) -> Block | None:
            view = self._only(node, self._peers)
            found = await view._block("eth_getBlockByNumber", "latest")  # noqa: SLF001  # one of us
            if found is not None:
                self._weigh(node, found.number)
            return found

        return await self._try(ask)

    async def _try(self, ask: Callable[[Node], Awaitable[T]]) -> T:
        failure: RpcUnavailable | None = None
        silent = 0
        for node in in_turn(self._nodes):
            node.begin_trial(self._timeout_seconds)
            try:
                return await ask(node)
            except RpcUnavailable as error:
                failure = error
                self._leave(node, error)
            # Who lags has said so at once; waiting for the silent must have an end.
            silent += not isinstance(failure, BlockNotSeen)
            if silent == 2:
                break
        assert failure is not None
        raise failure

    async def _prove(self, node: Node, limit: float) -> None:
        if not node.is_proven:
            found = await self._ask_one(node, "eth_chainId", [], quantity, limit)
            if found != self.expected_chain_id:
                raise WrongChain(
                    f"one of the nodes is a node of chain {found}, "
                    f"not of {self.expected_chain_id}",
                    node=node.endpoint.host,
                )
            node.is_proven = True
        if node.must_tell_head(self._peers):
            self._weigh(node, await self._head_of(node, limit))

    async def _head_of(self, node: Node, limit: float) -> int:
        try:
            return await self._ask_one(node, "eth_blockNumber", [], quantity, limit)
        except RpcErrorAnswer as error:  # it is none to what was asked
            host = node.endpoint.host
            raise RpcUnavailable("the node names no block", node=host) from error

    def _weigh(self, node: Node, head: int) -> None:
        """Raise ``BlockNotSeen`` when it lags; not where each is asked by itself."""
        if len(self._peers) == 1:
            return
        node.tell_head(head)
        behind = node.behind(self._peers)
        if not behind:
            return
        host = node.endpoint.host
        if node.rest():
            _log.warning("node_lags", node=host, blocks=behind)
        raise BlockNotSeen(f"the node is {behind} blocks behind another", node=host)

    def _leave(self, node: Node, why: RpcUnavailable) -> None:
        # Whoever lags behind has answered, and at the place where he was proven.
        node.is_proven = node.is_proven and isinstance(why, BlockNotSeen)
        node.rest()

    async def _ask_one(
        self,
        node: Node,
        method: str,
        params: Sequence[Any],
        read: Callable[[Any], T],
        limit: float,
    ) -> T:
        host = node.endpoint.host
        request = node.web3.manager.coro_request
        try:
            async with asyncio.timeout(limit):
                return read(await request(RPCEndpoint(method), list(params)))
        except Web3RPCError as error:
            raise _error_answer(method, host, error) from error
        except AnswerTooLarge as error:
            raise RpcErrorAnswer(method, 0, "the answer is too large") from error
        except TimeoutError as error:
            text = f"no answer to {method} within {limit:g} s"
            raise RpcUnavailable(text, node=host) from error
        except _NO_ANSWER as error:
            kind = type(error).__name__
            text = f"no answer to {method}: {kind}"
            raise RpcUnavailable(text, node=host) from error

    async def _block(self, method: str, wanted: str) -> Block | None:
        try:
            return await self.ask(method, [wanted, False], _read_block)
        except RpcErrorAnswer as error:
            if _NO_SUCH_BLOCK.search(error.text):
                return None
            raise


def _read_block(value: Any) -> Block | None:
    if value is None:
        return None
    block = mapping(value)
    return Block(
        number=quantity(field(block, "number")),
        hash=fixed(field(block, "hash"), 32),
        parent_hash=fixed(field(block, "parentHash"), 32),
        timestamp_seconds=quantity(field(block, "timestamp")),
    )


def _error_answer(
    method: str, host: str, error: Web3RPCError
) -> RpcErrorAnswer | RpcUnavailable:
    """What the node's error means: its own failure to serve us is no answer."""
    answer: Any = (error.rpc_response or {}).get("error") or {}
    text, code = str(answer.get("message", ""))[:500], int(answer.get("code", 0))
    found = RpcErrorAnswer(method, code, text, _revert_data(answer.get("data")))
    # A contract chooses the words that it reverts with; they say nothing of the node.
    if not found.is_revert and (code == 429 or _NOT_SERVED.search(text)):
        text = f"the node did not serve {method} (error {code})"
        return RpcUnavailable(text, node=host)
    return found


def _revert_data(value: Any) -> bytes:
    """Bytes of a revert: as they are, nested in an object, or after some words."""
    if isinstance(value, dict):
        value = value.get("data")
    found = _NESTED_DATA.search(value) if isinstance(value, str) else None
    with suppress(Garbage):
        return octets(found.group()) if found else b""
    return b""
