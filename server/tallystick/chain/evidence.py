"""What happened on the chain, told only from logs that hold.

A log holds when three readings agree: the log itself; the receipt of its transaction,
with status 1, in the same block, with the same log inside; and the block that is
canonical at that height, read last. So a ghost (a log of a block that was dropped, or
of a transaction shown in two blocks), a log of a reverted transaction and an event of
another contract never come out. A log whose receipt or block the node cannot show yet
raises ``BlockNotSeen``. An empty list means "not seen", never "did not happen".
All readings are of one node: a log of a block that another has left would be no ghost.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

from tallystick.chain import abi
from tallystick.chain.errors import BlockNotSeen
from tallystick.chain.logs import (
    RawLog,
    Receipt,
    logs_between,
    logs_in_block,
    receipt,
)
from tallystick.chain.permit2 import (
    EXACT_PROXY,
    PERMIT2,
    calldata_of,
    read_settlement,
)
from tallystick.chain.rpc import Block, Chain
from tallystick.chain.together import together
from tallystick.kernel.money import UsdcAtomic

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChain:
    """Where something happened; ``timestamp_seconds`` is its block's, Unix epoch."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    log_index: int
    timestamp_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferLog(OnChain):
    """USDC that moved, in atomic units.

    ``nonce`` is that of the EIP-3009 authorization which moved it: FiatToken logs
    AuthorizationUsed at the log index directly before. Or that of the permit, if the
    transaction is a call of x402's proxy; then ``authority`` is Permit2, whose nonce it
    is. None for any other transfer.
    """

    payer: bytes
    pay_to: bytes
    amount: UsdcAtomic
    nonce: bytes | None
    authority: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled(TransferLog):
    """An authorization that was captured, and what it moved, to whomever it did.

    ``log_index`` is that of the Transfer; AuthorizationUsed stands directly before it.
    """

    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled(OnChain):
    """An authorization that its payer withdrew (EIP-3009 cancelAuthorization)."""

    payer: bytes
    nonce: bytes


@dataclass(frozen=True, slots=True)
class _Proven:
    """A log that holds, with what vouches for it."""

    log: RawLog
    receipt: Receipt
    block: Block


async def find_settlements(
    chain: Chain, payer: bytes, nonce: bytes, from_block: int, *, at_least: int = 0
) -> list[Settled]:
    """Captures of the payer's authorization since a height, whoever submitted them.

    ``at_least`` is how far the node must have come, so that "not seen" means "not yet
    by then".

    Only with the paired Transfer from the payer; the amount is the Transfer's. More
    than one contradicts the token, and a human must look. Raises ``BlockNotSeen``,
    ``RpcUnavailable``.
    """
    topics = [abi.AUTHORIZATION_USED, abi.word(payer), nonce]
    found = await _held_between(chain, topics, from_block, at_least=at_least)
    # FiatToken logs the Transfer directly after.
    moved = [_transfer(proven, proven.log.log_index + 1) for proven in found]
    return [
        Settled(**(asdict(item) | {"nonce": nonce}))
        for item in moved
        if item and item.payer == payer
    ]


async def find_cancellations(
    chain: Chain, payer: bytes, nonce: bytes, from_block: int, *, at_least: int = 0
) -> list[Cancelled]:
    """Withdrawals of the payer's authorization since a height.

    ``at_least`` is as in ``find_settlements``. Raises ``BlockNotSeen``, ``RpcUnavailable``.
    """
    topics = [abi.AUTHORIZATION_CANCELED, abi.word(payer), nonce]
    found = await _held_between(chain, topics, from_block, at_least=at_least)
    return [
        Cancelled(
            tx_hash=proven.log.tx_hash,
            block_number=proven.log.block_number,
            block_hash=proven.log.block_hash,
            log_index=proven.log.log_index,
            timestamp_seconds=proven.block.timestamp_seconds,
            payer=payer,
            nonce=nonce,
        )
        for proven in found
    ]


async def transfers_to(
    chain: Chain, pay_to: bytes, from_block: int, to_block: int
) -> list[TransferLog]:
    """USDC that arrived between two heights, both included, in chain order.

    Transfers of nothing are left out: they are address poisoning.
    Raises ``BlockNotSeen`` when the node has not reached ``to_block``, else
    ``RpcErrorAnswer``, ``RpcUnavailable``.
    """
    topics = [abi.TRANSFER, None, abi.word(pay_to)]
    return await _arrived_between(chain, topics, from_block, to_block)


async def transfers_between(
    chain: Chain,
    payer: bytes,
    pay_to: bytes,
    amount: int,
    from_block: int,
    *,
    at_least: int = 0,
) -> list[TransferLog]:
    """Each time one has paid another this amount since a height, up to the node's head.

    ``at_least`` is as in ``find_settlements``. Otherwise as ``transfers_to``.
    """
    topics = [abi.TRANSFER, abi.word(payer), abi.word(pay_to)]

    def is_wanted(log: RawLog) -> bool:
        return log.payload == abi.word(amount)

    async def ask(node: Chain) -> list[TransferLog]:
        found = await _held_between(
            node, topics, from_block, wanted=is_wanted, at_least=at_least
        )
        return await _with_permits(node, found)

    return await chain.of_one_node(ask)


async def transfers_from(
    chain: Chain, payer: bytes, from_block: int, to_block: int
) -> list[TransferLog]:
    """USDC that left between two heights; otherwise as ``transfers_to``."""
    topics = [abi.TRANSFER, abi.word(payer)]
    return _moved(await _held_between(chain, topics, from_block, to_block))


async def transfers_in_block(
    chain: Chain, block_hash: bytes, *, pay_to: bytes
) -> list[TransferLog]:
    """USDC that arrived in one block, named by hash, so that nothing is empty by error.

    Raises ``BlockNotSeen`` for a block that the node does not know, and when one with
    logs is not canonical any more; ``RpcUnavailable``.
    """
    topics = [abi.TRANSFER, None, abi.word(pay_to)]

    async def ask(node: Chain) -> list[TransferLog]:
        return await _with_permits(node, await _held_in(node, block_hash, topics))

    return await chain.of_one_node(ask)


async def transfers_out_of_block(
    chain: Chain, block_hash: bytes, *, payer: bytes
) -> list[TransferLog]:
    """USDC that left in one block; otherwise as ``transfers_in_block``."""
    topics = [abi.TRANSFER, abi.word(payer)]

    async def ask(node: Chain) -> list[TransferLog]:
        return _moved(await _held_in(node, block_hash, topics))

    return await chain.of_one_node(ask)


async def heights_of(
    chain: Chain,
    contract: bytes,
    topics: Sequence[bytes | None],
    from_block: int,
    wanted: Callable[[RawLog], bool],
) -> tuple[int, ...]:
    """In which blocks since a height a contract has logged what is wanted.

    Raises ``BlockNotSeen``, ``RpcUnavailable``.
    """
    found = await _held_between(
        chain, topics, from_block, contract=contract, wanted=wanted
    )
    return tuple(one.log.block_number for one in found)


async def _held_in(
    node: Chain, block_hash: bytes, topics: Sequence[bytes | None]
) -> list[_Proven]:
    logs = await logs_in_block(node, block_hash, topics)
    found = await _holding(node, logs)
    if any(log not in {one.log for one in found} for log in logs):
        # Ghosts: the chain may come back to this block, so it is not done with.
        raise BlockNotSeen(f"block 0x{block_hash.hex()} is not canonical")
    return found


async def _arrived_between(
    chain: Chain, topics: Sequence[bytes | None], first: int, last: int | None
) -> list[TransferLog]:
    async def ask(node: Chain) -> list[TransferLog]:
        return await _with_permits(node, await _held_between(node, topics, first, last))

    return await chain.of_one_node(ask)


def _moved(found: Sequence[_Proven]) -> list[TransferLog]:
    return [moved for _, moved in _pairs(found)]


def _pairs(found: Sequence[_Proven]) -> list[tuple[_Proven, TransferLog]]:
    moved = [(one, _transfer(one, one.log.log_index)) for one in found]
    return [(one, item) for one, item in moved if item and item.amount > 0]


async def _with_permits(chain: Chain, found: Sequence[_Proven]) -> list[TransferLog]:
    asked = [_with_permit(chain, one, moved) for one, moved in _pairs(found)]
    return await together(asked, _AT_ONCE)


async def _with_permit(
    chain: Chain, proven: _Proven, moved: TransferLog
) -> TransferLog:
    """The Transfer with the nonce of its permit, if the proxy itself was called.

    Such a call does one thing, once: the signature of a contract is asked for without
    a right to change anything. Calls by way of other contracts prove less.
    """
    if moved.nonce is not None or proven.receipt.to != EXACT_PROXY:
        return moved
    called = await calldata_of(chain, moved.tx_hash, moved.block_hash)
    expected = (proven.log.address, moved.amount, moved.payer, moved.pay_to)
    permit = read_settlement(called)
    if permit is None or permit.terms != expected or not _is_sole(proven):
        return moved
    return replace(moved, nonce=permit.nonce, authority=PERMIT2)


def _is_sole(proven: _Proven) -> bool:
    """Whether no other log of the transaction says the same."""
    log = proven.log
    said = (log.address, log.topics, log.payload)
    alike = [(one.address, one.topics, one.payload) for one in proven.receipt.logs]
    return alike.count(said) == 1


async def _held_between(
    chain: Chain,
    topics: Sequence[bytes | None],
    first: int,
    last: int | None = None,
    *,
    contract: bytes | None = None,
    wanted: Callable[[RawLog], bool] = lambda _: True,
    at_least: int = 0,
) -> list[_Proven]:
    """``wanted`` leaves out what needs no proof: others can make logs by the thousand."""

    async def ask(node: Chain) -> list[_Proven]:
        logs = await logs_between(
            node, topics, first, last, contract=contract, at_least=at_least
        )
        return await _holding(node, [one for one in logs if wanted(one)])

    return await chain.of_one_node(ask)


async def _holding(chain: Chain, logs: Sequence[RawLog]) -> list[_Proven]:
    """Those of the logs that hold, in their order."""
    hashes = list(dict.fromkeys(log.tx_hash for log in logs))
    read = [receipt(chain, tx_hash) for tx_hash in hashes]
    receipts = dict(zip(hashes, await together(read, _AT_ONCE), strict=True))
    # The blocks are read last: if one changed meanwhile, the hashes differ below.
    heights = list(dict.fromkeys(log.block_number for log in logs))
    canonical = [chain.block(height) for height in heights]
    blocks = dict(zip(heights, await together(canonical, _AT_ONCE), strict=True))
    proven = (
        _prove(log, receipts[log.tx_hash], blocks[log.block_number]) for log in logs
    )
    return [one for one in proven if one]


def _prove(log: RawLog, proof: Receipt | None, block: Block | None) -> _Proven | None:
    """The log with its proofs; None for a ghost.

    Without a proof nothing is known, and leaving the log out would lose it for good.
    """
    if proof is None or block is None:
        missing = "receipt" if proof is None else "block"
        raise BlockNotSeen(f"a log of block {log.block_number} has no {missing} yet")
    is_one_block = log.block_hash == proof.block_hash == block.hash
    if not (proof.succeeded and is_one_block and log in proof.logs):
        return None
    return _Proven(log, proof, block)


def _transfer(proven: _Proven, log_index: int) -> TransferLog | None:
    return transfer_at(
        proven.receipt,
        log_index,
        token=proven.log.address,
        timestamp_seconds=proven.block.timestamp_seconds,
    )


def transfer_at(
    proof: Receipt, log_index: int, *, token: bytes, timestamp_seconds: int
) -> TransferLog | None:
    """The token's Transfer at this place of a receipt; None if there is none.

    The caller knows the time of the block, and whether the receipt is to be believed.
    """
    log = _log_at(proof, log_index)
    if not proof.succeeded or log is None or log.address != token:
        return None
    has_its_shape = len(log.topics) == 3 and len(log.payload) == abi.WORD_BYTES
    if not has_its_shape or log.topics[0] != abi.TRANSFER:
        return None
    payer = log.topics[1][-20:]
    return TransferLog(
        tx_hash=log.tx_hash,
        block_number=log.block_number,
        block_hash=log.block_hash,
        log_index=log.log_index,
        timestamp_seconds=timestamp_seconds,
        payer=payer,
        pay_to=log.topics[2][-20:],
        amount=UsdcAtomic(int.from_bytes(log.payload, "big")),
        nonce=_nonce_before(proof, log, payer),
    )


def _nonce_before(proof: Receipt, transfer: RawLog, payer: bytes) -> bytes | None:
    """The nonce in an AuthorizationUsed of the payer directly before the transfer."""
    before = _log_at(proof, transfer.log_index - 1)
    if before is None or before.address != transfer.address or len(before.topics) != 3:
        return None
    event, authorizer, nonce = before.topics
    is_its = event == abi.AUTHORIZATION_USED and authorizer == abi.word(payer)
    return nonce if is_its else None


def _log_at(proof: Receipt, log_index: int) -> RawLog | None:
    return next((log for log in proof.logs if log.log_index == log_index), None)
