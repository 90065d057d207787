"""What became of a permit, told from Transfers and from the calls that made them.

Strong is a call of the proxy itself: its calldata names the one permit that it used.
A settlement by way of another contract counts only if its calldata holds all that was
signed, its receipt a log of the proxy's, and if it moved this amount between these two
just once. What looks like it and is less is *unclear*, and for a person.
"""

from dataclasses import dataclass

from tallystick.chain import abi
from tallystick.chain.authorization import AuthorizationFields
from tallystick.chain.errors import BlockNotSeen, RpcUnavailable, TokenUnreadable
from tallystick.chain.evidence import TransferLog, heights_of, transfers_between
from tallystick.chain.logs import RawLog, receipt
from tallystick.chain.permit2 import (
    EXACT_PROXY,
    INVALIDATION,
    PERMIT2,
    calldata_of,
    permit_used,
    permit_words,
)
from tallystick.chain.rpc import Chain


@dataclass(frozen=True, slots=True)
class PermitTraces:
    """What the chain shows of a permit at its head.

    ``captures`` moved its value to its payee. ``unclear`` are Transfers that may be its
    own or another's, while its nonce is used. ``invalidated_at`` are the heights at
    which its payer withdrew it, if nothing of it was captured.
    """

    captures: tuple[TransferLog, ...] = ()
    unclear: tuple[TransferLog, ...] = ()
    invalidated_at: tuple[int, ...] = ()


async def find_traces(
    chain: Chain, permit: AuthorizationFields, from_block: int, *, at_least: int = 0
) -> PermitTraces:
    """What became of the permit since a height, all as one node has it.

    ``at_least`` is how far that node must have come. Raises ``BlockNotSeen``,
    ``RpcUnavailable``.
    """
    return await chain.of_one_node(
        lambda node: _traces(node, permit, from_block, at_least)
    )


async def _traces(
    node: Chain, permit: AuthorizationFields, from_block: int, at_least: int
) -> PermitTraces:
    head = await node.block("latest")
    if head is None or head.number < at_least:
        raise BlockNotSeen(f"the node has not come as far as block {at_least}")
    # Asked before the logs, so that these hold whatever has used it by then.
    is_used = await _is_used(node, permit, head.number)
    moved = await transfers_between(
        node,
        permit.payer,
        permit.pay_to,
        permit.value,
        from_block,
        at_least=at_least,
    )
    captures = tuple(one for one in moved if _is_of(one, permit))
    if captures or not is_used:
        return PermitTraces(captures)
    found = await _roundabout(node, permit, moved)
    if found.captures:
        return found
    withdrawn = await _invalidations(node, permit, from_block)
    return PermitTraces(unclear=found.unclear, invalidated_at=withdrawn)


def _is_of(one: TransferLog, permit: AuthorizationFields) -> bool:
    return one.authority == PERMIT2 and one.nonce == permit.nonce


async def _is_used(node: Chain, permit: AuthorizationFields, height: int) -> bool:
    try:
        return await permit_used(node, permit.payer, permit.nonce, height)
    except TokenUnreadable as error:
        raise RpcUnavailable("the node does not say whether a nonce is used") from error


async def _roundabout(
    node: Chain, permit: AuthorizationFields, moved: list[TransferLog]
) -> PermitTraces:
    """Whether the permit was settled by way of another contract than the proxy."""
    alike = [one for one in moved if one.nonce is None]
    captures: list[TransferLog] = []
    unclear: list[TransferLog] = []
    for tx_hash in dict.fromkeys(one.tx_hash for one in alike):
        of_it = [one for one in alike if one.tx_hash == tx_hash]
        if not await _has_word_of_proxy(node, tx_hash):
            continue  # the proxy alone can use the permit, and it would tell
        is_sole = len(of_it) == 1
        if is_sole and await _names(node, permit, of_it[0]):
            captures += of_it
        else:
            unclear += of_it
    return PermitTraces(tuple(captures), tuple(unclear))


async def _has_word_of_proxy(node: Chain, tx_hash: bytes) -> bool:
    proof = await receipt(node, tx_hash)
    if proof is None:
        raise BlockNotSeen("a transaction has no receipt any more")
    return any(log.address == EXACT_PROXY for log in proof.logs)


async def _names(node: Chain, permit: AuthorizationFields, one: TransferLog) -> bool:
    """Whether its calldata holds the whole permit, used by the end of its block."""
    called = await calldata_of(node, one.tx_hash, one.block_hash)
    if permit_words(permit, node.token) not in called:
        return False
    try:
        return await permit_used(node, permit.payer, permit.nonce, one.block_number)
    except TokenUnreadable:
        # The node keeps no state so old. It is used now, and is never unused.
        return True


async def _invalidations(
    node: Chain, permit: AuthorizationFields, from_block: int
) -> tuple[int, ...]:
    nonce = int.from_bytes(permit.nonce, "big")
    word, bit = abi.word(nonce >> 8), 1 << (nonce & 0xFF)

    def is_of_it(log: RawLog) -> bool:
        mask = int.from_bytes(log.payload[abi.WORD_BYTES :], "big")
        return log.payload[: abi.WORD_BYTES] == word and bool(mask & bit)

    topics = [INVALIDATION, abi.word(permit.payer)]
    return await heights_of(node, PERMIT2, topics, from_block, is_of_it)
