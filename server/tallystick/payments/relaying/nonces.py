"""The next nonce of a key, as its new owner learns it."""

from collections.abc import Iterable, Sequence

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.logs import receipt
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.kernel.log import get_logger
from tallystick.payments.models.topups import RelayedTransaction, RelayerRow
from tallystick.payments.rail import Rail, Relayer
from tallystick.payments.relaying.counts import ask_counts, confirmed
from tallystick.payments.relaying.leases import keep_leases, row_of, under_lease
from tallystick.payments.sequences import WIDEST_HOLE
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)
_PROOFS = 64
"""Transactions whose receipts are asked for: more than can be open at once, so that a
key which has come so far has one of them in a block."""


async def register_relayers(db: Database, rail: Rail) -> None:
    """Take the keys that are free, and know their next nonces.

    Raises ``RpcUnavailable``.
    """
    await keep_leases(db, rail)
    for relayer in rail.relayers:
        sequence = rail.sequence(relayer)
        if sequence.fence is not None and not sequence.is_known:
            async with sequence.lock:
                await learn_nonces(db, rail, relayer)


async def learn_nonces(db: Database, rail: Rail, relayer: Relayer) -> None:
    """Compare the key's next nonce with the chain and with what is stored.

    It follows the chain where that is ahead, as far as that is confirmed: a restored
    database lags behind what was signed after its backup, and somebody may use the key
    elsewhere. One that is ahead of both would make a gap and is lowered, but only by
    who has just taken the key or has found the gap: a node may lag. Needs the sequence's
    lock; raises ``RpcUnavailable``.
    """
    sequence = rail.sequence(relayer)
    fence = sequence.fence
    if fence is None:
        return
    counts = await ask_counts(rail.chain, relayer.address)
    async with db.read() as session:
        known = await _next_known(session, rail, relayer)
    if counts.highest > known:
        counts = await confirmed(rail, relayer.address, counts)
    await _require_consistent(db, rail, relayer, counts.highest)

    async def work(session: WriteSession) -> int | None:
        least = _reached(
            counts.highest, await _nonces(session, rail, relayer, counts.highest)
        )
        column = col(RelayerRow.next_nonce)
        too_low = column < least if sequence.is_known else column != least
        lease = under_lease(session, rail, relayer, fence)
        await session.exec(
            update(RelayerRow).where(*lease, too_low).values(next_nonce=least)
        )
        found = select(RelayerRow.next_nonce).where(*lease)
        return (await session.exec(found)).one_or_none()

    next_nonce = await db.write(work)
    if next_nonce is None:
        sequence.own(None)
        return
    sequence.next_nonce, sequence.mined = next_nonce, counts.mined
    sequence.taken = counts.highest
    sequence.is_known = True
    rail.work.notify()


async def step_back(db: Database, rail: Rail, relayer: Relayer) -> None:
    """Learn anew, and lower what was raised by a count that was a lie.

    Needs the sequence's lock; raises ``RpcUnavailable``.
    """
    sequence = rail.sequence(relayer)
    before = sequence.next_nonce
    sequence.is_known = False
    try:
        await learn_nonces(db, rail, relayer)
    except RpcUnavailable:
        sequence.is_known = True  # as well as before
        raise
    if sequence.next_nonce < before:
        _log.error(
            "relayer_stepped_back",
            relayer=checksum_address(relayer.address),
            before=before,
            after=sequence.next_nonce,
        )


async def _next_known(session: ReadSession, rail: Rail, relayer: Relayer) -> int:
    query = select(RelayerRow.next_nonce).where(*row_of(rail, relayer))
    return (await session.exec(query)).one_or_none() or 0


async def _nonces(
    session: ReadSession | WriteSession, rail: Rail, relayer: Relayer, first: int
) -> Sequence[int]:
    """Those from the first on that we signed with the key, in their order."""
    query = (
        select(RelayedTransaction.evm_nonce)
        .where(
            col(RelayedTransaction.chain_id) == rail.domain.chain_id,
            col(RelayedTransaction.relayer) == relayer.address,
            col(RelayedTransaction.evm_nonce) >= first,
        )
        .distinct()
        .order_by(col(RelayedTransaction.evm_nonce))
    )
    return (await session.exec(query)).all()


def _reached(first: int, nonces: Iterable[int]) -> int:
    """One more than the highest that can be reached without too wide a hole."""
    for nonce in nonces:
        if nonce - first > WIDEST_HOLE:
            break
        first = nonce + 1
    return first


async def _require_consistent(
    db: Database, rail: Rail, relayer: Relayer, count: int
) -> None:
    """Raise ``RpcUnavailable`` when receipts of ours say that the count is too low.

    Only what a hole divides from the count is asked for; it is hardly ever there.
    """
    async with db.read() as session:
        nonces = await _nonces(session, rail, relayer, count)
        beyond = _reached(count, nonces)
        if not nonces or nonces[-1] < beyond:
            return
        query = (
            select(RelayedTransaction.tx_hash)
            .where(
                col(RelayedTransaction.chain_id) == rail.domain.chain_id,
                col(RelayedTransaction.relayer) == relayer.address,
                col(RelayedTransaction.evm_nonce) >= beyond,
            )
            .order_by(col(RelayedTransaction.evm_nonce).desc())
            .limit(_PROOFS)
        )
        hashes = (await session.exec(query)).all()
    for tx_hash in hashes:
        if await receipt(rail.chain, tx_hash) is not None:
            raise RpcUnavailable("a node counts fewer transactions than it has mined")
