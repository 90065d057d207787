"""The next nonce of a key, as its new owner learns it."""

import asyncio

from sqlalchemy import func, update
from sqlmodel import col, select

from tallystick.kernel.db import Database, WriteSession
from tallystick.payments.models.topups import RelayedTransaction, RelayerRow
from tallystick.payments.rail import Rail, Relayer
from tallystick.payments.relaying.leases import keep_leases, under_lease


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

    It follows the chain where that is ahead: a restored database lags behind what was
    signed after its backup, and somebody may use the key elsewhere. One that is ahead of
    both would make a gap and is lowered, but only by who has just taken the key: a node
    may lag. Needs the sequence's lock; raises ``RpcUnavailable``.
    """
    sequence = rail.sequence(relayer)
    fence = sequence.fence
    if fence is None:
        return
    mined, pooled = await asyncio.gather(
        rail.chain.nonce(relayer.address, "latest"),
        rail.chain.nonce(relayer.address, "pending"),
    )
    with_nodes = max(mined, pooled)

    async def work(session: WriteSession) -> int | None:
        stored = await _after_stored(session, rail, relayer)
        least = max(with_nodes, stored)
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
    sequence.next_nonce, sequence.mined = next_nonce, mined
    sequence.taken = with_nodes
    sequence.is_known = True
    rail.work.notify()


async def _after_stored(session: WriteSession, rail: Rail, relayer: Relayer) -> int:
    """One more than the highest nonce that we ever signed with the key."""
    query = select(func.max(RelayedTransaction.evm_nonce)).where(
        col(RelayedTransaction.chain_id) == rail.domain.chain_id,
        col(RelayedTransaction.relayer) == relayer.address,
    )
    highest = (await session.exec(query)).one()
    return 0 if highest is None else highest + 1
