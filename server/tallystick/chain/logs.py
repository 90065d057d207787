"""Logs and receipts as the node gives them: read strictly, not yet believed.

What is believed, and why, is said in ``evidence``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tallystick.chain.errors import BlockNotSeen, RpcErrorAnswer
from tallystick.chain.hexadecimal import (
    Garbage,
    field,
    fixed,
    mapping,
    octets,
    quantity,
    sequence,
    to_hex,
)
from tallystick.chain.rpc import Chain

FIRST_SPAN_BLOCKS = 5_000
LARGEST_SPAN_BLOCKS = 10_000
"""Common hosts refuse wider ranges; a narrower limit is found by halving."""


@dataclass(frozen=True, slots=True)
class RawLog:
    """One event and its place; ``topics[0]`` is the event's signature hash."""

    address: bytes
    topics: tuple[bytes, ...]
    payload: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a mined transaction did; ``succeeded`` is its status 1.

    ``l1_fee`` in wei is what an OP-stack chain took for its data, 0 elsewhere; ``to``
    is whom its sender called, None when it made a contract.
    """

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    succeeded: bool
    gas_used: int
    effective_gas_price: int
    logs: tuple[RawLog, ...]
    l1_fee: int = 0
    to: bytes | None = None

    @property
    def cost(self) -> int:
        """What its sender paid, in wei."""
        return self.gas_used * self.effective_gas_price + self.l1_fee


async def receipt(chain: Chain, tx_hash: bytes) -> Receipt | None:
    """The receipt, or None when this node knows of none (yet); proves nothing alone.

    Raises ``RpcUnavailable``.
    """
    read = _receipt_of(tx_hash)
    return await chain.ask("eth_getTransactionReceipt", [to_hex(tx_hash)], read)


async def sender_of(chain: Chain, tx_hash: bytes) -> bytes | None:
    """Whose key sent the mined transaction; None when this node knows of none (yet).

    Raises ``RpcUnavailable``.
    """

    def read(value: Any) -> bytes | None:
        if value is None:
            return None
        found = mapping(value)
        if fixed(field(found, "transactionHash"), 32) != tx_hash:
            raise Garbage("the receipt of another transaction")
        return fixed(field(found, "from"), 20)

    return await chain.ask("eth_getTransactionReceipt", [to_hex(tx_hash)], read)


async def logs_in_block(
    chain: Chain, block_hash: bytes, topics: Sequence[bytes | None]
) -> list[RawLog]:
    """The token's logs in one block with such topics (None fits any).

    Raises ``BlockNotSeen`` for a block unknown to the node, which asked by number would
    have answered with an empty list, and ``RpcUnavailable``.
    """
    try:
        return await logs_once(
            chain, chain.token, topics, {"blockHash": to_hex(block_hash)}
        )
    except RpcErrorAnswer as error:
        raise BlockNotSeen(f"no logs of block {to_hex(block_hash)}") from error


async def logs_between(
    chain: Chain,
    topics: Sequence[bytes | None],
    from_block: int,
    to_block: int | None = None,
    *,
    contract: bytes | None = None,
    at_least: int = 0,
) -> list[RawLog]:
    """The token's logs from one height to another, both included, in chain order.

    Or another contract's. Without ``to_block`` up to the node's head, which must not be
    below ``at_least``. Hosts limit blocks and results for each request in many ways and
    words, so any error halves the range, down to one block. Raises ``BlockNotSeen`` when
    the node has not reached ``to_block`` or ``at_least`` and would leave logs out in
    silence; ``RpcErrorAnswer``, ``RpcUnavailable``.
    """

    async def ask(node: Chain) -> list[RawLog]:
        end = await _seen(node, to_block, at_least)
        return await _ranges(node, contract or chain.token, topics, from_block, end)

    # A node that has come so far says nothing of what another has.
    found = await chain.of_one_node(ask)
    return sorted(set(found), key=lambda log: (log.block_number, log.log_index))


async def _ranges(
    chain: Chain,
    contract: bytes,
    topics: Sequence[bytes | None],
    from_block: int,
    end: int,
) -> list[RawLog]:
    found: list[RawLog] = []
    span, start = FIRST_SPAN_BLOCKS, from_block
    while start <= end:
        stop = min(end, start + span - 1)
        bounds = {"fromBlock": hex(start), "toBlock": hex(stop)}
        try:
            found += await logs_once(chain, contract, topics, bounds)
        except RpcErrorAnswer:
            if stop == start:
                raise
            span = (stop - start + 1) // 2
            continue
        start, span = stop + 1, min(span * 2, LARGEST_SPAN_BLOCKS)
    return found


async def _seen(chain: Chain, to_block: int | None, at_least: int) -> int:
    block = await chain.block("latest" if to_block is None else to_block)
    if block is None:
        raise BlockNotSeen(f"the node has not seen block {to_block or 'latest'}")
    if block.number < at_least:
        raise BlockNotSeen(f"the node has not come as far as block {at_least}")
    return block.number


async def logs_once(
    chain: Chain,
    contract: bytes,
    topics: Sequence[bytes | None],
    bounds: dict[str, str],
) -> list[RawLog]:
    """One eth_getLogs, as it is: ``bounds`` are its block members, limits are errors.

    Raises ``RpcErrorAnswer``, ``RpcUnavailable``.
    """
    wanted = [None if topic is None else to_hex(topic) for topic in topics]
    request = {"address": to_hex(contract), "topics": wanted, **bounds}

    def read(value: Any) -> list[RawLog]:
        return [log for item in sequence(value) if (log := _read_log(item))]

    answered = await chain.ask("eth_getLogs", [request], read)
    # A node that ignores the filter must not make another contract's event ours.
    return [log for log in answered if _fits(log, contract, topics)]


def _fits(log: RawLog, contract: bytes, topics: Sequence[bytes | None]) -> bool:
    wanted = len(log.topics) >= len(topics) and all(
        topic is None or topic == found
        for topic, found in zip(topics, log.topics, strict=False)
    )
    return wanted and log.address == contract


def _read_log(value: Any) -> RawLog | None:
    """The log; None for one that a reorganisation has removed."""
    log = mapping(value)
    if log.get("removed"):
        return None
    return RawLog(
        address=fixed(field(log, "address"), 20),
        topics=tuple(fixed(item, 32) for item in sequence(field(log, "topics"))),
        payload=octets(field(log, "data")),
        block_number=quantity(field(log, "blockNumber")),
        block_hash=fixed(field(log, "blockHash"), 32),
        tx_hash=fixed(field(log, "transactionHash"), 32),
        log_index=quantity(field(log, "logIndex")),
    )


def _receipt_of(tx_hash: bytes) -> Callable[[Any], Receipt | None]:
    def read(value: Any) -> Receipt | None:
        if value is None:
            return None
        found = mapping(value)
        if fixed(field(found, "transactionHash"), 32) != tx_hash:
            raise Garbage("the receipt of another transaction")
        block_hash = fixed(field(found, "blockHash"), 32)
        read_logs = (_read_log(item) for item in sequence(field(found, "logs")))
        logs = tuple(log for log in read_logs if log)
        if any((log.tx_hash, log.block_hash) != (tx_hash, block_hash) for log in logs):
            raise Garbage("a receipt with the log of another transaction")
        return Receipt(
            tx_hash=tx_hash,
            block_number=quantity(field(found, "blockNumber")),
            block_hash=block_hash,
            succeeded=quantity(field(found, "status")) == 1,
            gas_used=quantity(field(found, "gasUsed")),
            effective_gas_price=quantity(field(found, "effectiveGasPrice")),
            logs=logs,
            l1_fee=quantity(found.get("l1Fee") or "0x0"),
            to=fixed(found["to"], 20) if found.get("to") else None,
        )

    return read
