"""What became of a permit, by the chain and by what the books have taken already."""

from dataclasses import dataclass

from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.chain.permit2 import PERMIT2
from tallystick.chain.permit_evidence import find_traces
from tallystick.kernel.db import Database, ReadSession
from tallystick.payments.models.chain import ChainTransfer, Presence, Redemption
from tallystick.payments.models.topups import Payment
from tallystick.payments.permits import is_redeemed, was_redeemed
from tallystick.payments.rail import Rail
from tallystick.x402.wire import Authorization


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a nonce; heights of what took it away from us.

    ``is_unclear`` means that a Transfer may be its own, or another's, ``is_traceless``
    that the token calls the nonce used and no log tells by what. ``is_redeemed`` means
    that its payer has redeemed what it moved, and nothing is left that might be its own.
    """

    ours: tuple[TransferLog, ...] = ()
    spent_at_blocks: tuple[int, ...] = ()
    is_unclear: bool = False
    is_traceless: bool = False
    is_redeemed: bool = False


async def fate_of_permit(
    db: Database, rail: Rail, topup: Payment, signed: Authorization, *, at_least: int
) -> Fate:
    """The permit's captures that nobody else has had credited.

    ``at_least`` is how far the node must have come. Raises ``BlockNotSeen``, ``RpcUnavailable``.
    """
    traces = await find_traces(
        rail.chain, signed, topup.scan_from_block, at_least=at_least
    )
    # What the proxy's own calldata names is nobody else's.
    certain = tuple(one for one in traces.captures if one.nonce is not None)
    likely = certain or (*traces.captures, *traces.unclear)
    async with db.read() as session:
        redeemed = [one for one in likely if await _is_redeemed(session, rail, one)]
        taken = [one for one in likely if await _is_taken(session, rail, one)]
    if certain:
        return Fate(is_redeemed=True) if redeemed else Fate(certain)
    ours = tuple(one for one in traces.captures if one not in taken)
    if ours:
        return Fate(ours)
    otherwise = await _come_otherwise(db, topup)
    candidates = [one in redeemed for one in likely] + otherwise
    if candidates and all(candidates):
        return Fate(is_redeemed=True)
    # Its own, and yet another's: a person must look.
    is_unclear = any(one in taken for one in traces.captures) or any(
        one not in taken for one in traces.unclear
    )
    return Fate(
        spent_at_blocks=traces.invalidated_at, is_unclear=is_unclear or bool(otherwise)
    )


async def _is_redeemed(session: ReadSession, rail: Rail, one: TransferLog) -> bool:
    return await was_redeemed(session, rail.domain.chain_id, one)


async def _come_otherwise(db: Database, topup: Payment) -> list[bool]:
    """Of what the observer has seen its nonce move in another amount: if redeemed."""
    query = select(ChainTransfer.id, ChainTransfer.generation).where(
        # By the chain alone SQLite would look for it, and read all there is.
        col(ChainTransfer.chain_id) + 0 == topup.chain_id,
        col(ChainTransfer.sender) == topup.payer,
        col(ChainTransfer.nonce) == topup.nonce,
        col(ChainTransfer.authority) == PERMIT2,
        col(ChainTransfer.value) != topup.value,
        col(ChainTransfer.presence) == Presence.BOOKED,
    )
    async with db.read() as session:
        rows = (await session.exec(query)).all()
        return [await is_redeemed(session, *row) for row in rows]


async def _is_taken(session: ReadSession, rail: Rail, one: TransferLog) -> bool:
    """Whether it was credited to another payment, or redeemed by its sender."""
    query = (
        select(ChainTransfer.id)
        .outerjoin(
            Redemption,
            (col(Redemption.chain_transfer_id) == col(ChainTransfer.id))
            & (col(Redemption.generation) == col(ChainTransfer.generation)),
        )
        .where(
            col(ChainTransfer.chain_id) == rail.domain.chain_id,
            col(ChainTransfer.block_hash) == one.block_hash,
            col(ChainTransfer.log_index) == one.log_index,
            col(ChainTransfer.topup_id).is_not(None)
            | col(Redemption.customer_id).is_not(None),
        )
    )
    return (await session.exec(query)).one_or_none() is not None
