"""Whether a node of another provider shows the same Transfer as ours.

Our nodes may lie, or be led astray together. A node of somebody else is asked for the
block at that height and for what its receipt says; a hash stands for all that a block
holds, so who names another hash, or another log in the same block, disagrees. That may
pass at the tip of the chain, and not in a block which that node itself calls final.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tallystick.chain.errors import (
    BlockNotSeen,
    RpcErrorAnswer,
    RpcUnavailable,
    WrongChain,
)
from tallystick.chain.evidence import TransferLog, transfer_at
from tallystick.chain.hexadecimal import field, fixed, mapping, quantity, sequence
from tallystick.chain.logs import receipt
from tallystick.chain.rpc import Chain


class Testimony(StrEnum):
    """What the witness says of a Transfer."""

    UNASKED = "unasked"
    AGREES = "agrees"
    SILENT = "silent"
    """It gives no answer, or has not come so far."""
    DISAGREES = "disagrees"
    """It shows something else there, which may change."""
    CONTRADICTS = "contradicts"
    """It shows something else there for good."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """A block's hash, and the transactions that it lists."""

    hash: bytes
    transactions: frozenset[bytes]


async def testify(witness: Chain, seen: TransferLog) -> Testimony:
    """What the witness says of it; all questions go to one of its nodes."""
    try:
        return await witness.of_one_node(lambda node: _testify(node, seen))
    except WrongChain:
        return Testimony.CONTRADICTS
    except (RpcUnavailable, RpcErrorAnswer):
        return Testimony.SILENT


async def _testify(node: Chain, seen: TransferLog) -> Testimony:
    # Finality is asked first: what is not there by then must not be older.
    final = await node.block("finalized")
    block = await _listing(node, seen.block_number)
    if block is None:
        raise BlockNotSeen("the witness has not come so far")
    is_there = False
    if block.hash == seen.block_hash:
        proof = await receipt(node, seen.tx_hash)
        if proof is None and seen.tx_hash in block.transactions:
            raise BlockNotSeen("the witness has no receipts of that block")
        is_there = proof is not None and transfer_at(
            proof, seen.log_index, token=node.token, timestamp_seconds=0
        ) == _as_transfer(seen)
    return weigh(
        is_there=is_there,
        height=seen.block_number,
        final=None if final is None else final.number,
    )


def weigh(*, is_there: bool, height: int, final: int | None) -> Testimony:
    """What it means that a witness, with this final block, does (not) show it."""
    if is_there:
        return Testimony.AGREES
    is_for_good = final is not None and final >= height
    return Testimony.CONTRADICTS if is_for_good else Testimony.DISAGREES


def _as_transfer(seen: TransferLog) -> TransferLog:
    return TransferLog(
        tx_hash=seen.tx_hash,
        block_number=seen.block_number,
        block_hash=seen.block_hash,
        log_index=seen.log_index,
        timestamp_seconds=0,
        payer=seen.payer,
        pay_to=seen.pay_to,
        amount=seen.amount,
        # A permit's is in the calldata, for which the transaction's hash stands.
        nonce=None if seen.authority else seen.nonce,
    )


async def _listing(node: Chain, height: int) -> _Listing | None:
    def read(value: Any) -> _Listing | None:
        if value is None:
            return None
        block = mapping(value)
        if quantity(field(block, "number")) != height:
            raise BlockNotSeen("the witness gave another block")
        listed = sequence(field(block, "transactions"))
        return _Listing(
            fixed(field(block, "hash"), 32),
            frozenset(fixed(one, 32) for one in listed),
        )

    return await node.ask("eth_getBlockByNumber", [hex(height), False], read)
