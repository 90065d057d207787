"""How many transactions of a key there are, when a node says more than we know of.

A count that is too high lets the key sign with a gap, and everything waits behind it. So
what is beyond our own next nonce is believed only as far as every node says so that is
up to date: the others of ``RPC_URLS``, as far as they answer, and the witness, without
which nothing is believed where there is one. Of several answers the lowest counts: a
nonce that was used already is told by the chain and costs nothing.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable
from tallystick.chain.rpc import Chain
from tallystick.kernel.log import get_logger
from tallystick.payments.rail import Rail
from tallystick.payments.sequences import WIDEST_HOLE
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)
_BEHIND_SECONDS = 60
"""A node whose newest block is so much older says nothing of a count."""
_AHEAD_SECONDS = 30
"""A block may be later than our clock; nobody is behind one that is later still."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The key's transactions in blocks, and with those in a pool."""

    mined: int
    pooled: int

    @property
    def highest(self) -> int:
        return max(self.mined, self.pooled)


@dataclass(frozen=True, slots=True)
class _Answer:
    counts: Counts
    head_seconds: int


async def ask_counts(chain: Chain, address: bytes) -> Counts:
    """What one node says. Raises ``RpcUnavailable``."""
    return Counts(
        *await asyncio.gather(
            chain.nonce(address, "latest"), chain.nonce(address, "pending")
        )
    )


async def confirmed(rail: Rail, address: bytes, told: Counts) -> Counts:
    """As much of a count that is news as all nodes agree on that are up to date.

    Raises ``RpcUnavailable`` while a witness that we have does not say anything.
    """
    nodes = list(rail.chain.each())
    asked = [_ask(one, address) for one in nodes]
    if rail.witness is not None:
        asked.append(_ask(rail.witness.chain, address))
    answers = await asyncio.gather(*asked)
    newest = max((one.head_seconds for one in answers if one), default=0)
    newest = min(newest, rail.clock.now_ms() // 1000 + _AHEAD_SECONDS)
    usable = [
        one for one in answers if one and one.head_seconds >= newest - _BEHIND_SECONDS
    ]
    if rail.witness is not None and answers[-1] not in usable:
        raise RpcUnavailable("the witness has yet to say what a relayer key has sent")
    believed = _believed(told, [one.counts for one in usable])
    if believed.highest < told.highest:
        _log.error(
            "relayer_count_contradicted",
            relayer=checksum_address(address),
            told=told.highest,
            believed=believed.highest,
        )
    return believed


def _believed(told: Counts, heard: Sequence[Counts]) -> Counts:
    """The lowest counts; but a pool is each node's own, and may know what others do not.

    So one that has a few more is believed: if they come to nothing they are filled.
    """
    mined = min([told.mined, *(one.mined for one in heard)])
    pooled = min([told.pooled, *(one.pooled for one in heard)])
    if told.mined - mined <= WIDEST_HOLE:
        pooled = max(pooled, min(told.pooled, mined + WIDEST_HOLE))
    return Counts(mined, pooled)


async def _ask(chain: Chain, address: bytes) -> _Answer | None:
    async def ask(node: Chain) -> _Answer | None:
        head = await node.block("latest")
        if head is None:
            return None
        return _Answer(await ask_counts(node, address), head.timestamp_seconds)

    try:
        return await chain.of_one_node(ask)
    except (RpcUnavailable, RpcErrorAnswer):
        return None
