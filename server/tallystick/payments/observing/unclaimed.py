"""Payments that are on the chain and that nobody has presented to these books.

Their claims were made after the backup that the books were restored from, or somebody
submitted an authorization before its header came. Whoever still has the header presents
it and gets what was quoted. Its payer may redeem it like a plain transfer, at the plain
rate; and once its block is final it is credited to him anyway. All three make the same
claim, whose key is the authorization, so one of them is first and the others find it.
"""

from dataclasses import dataclass
from functools import partial

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.chain.rpc import Block
from tallystick.claims.claim import ClaimedMoney, Use, claim
from tallystick.claims.models import Claim, ClaimState
from tallystick.customers.models import Wallet
from tallystick.kernel.db import Database, ReadSession, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.kernel.money import MicroCredits, UsdcAtomic
from tallystick.payments.models.chain import (
    ChainCursor,
    ChainTransfer,
    Presence,
    nonce_keeper,
)
from tallystick.payments.models.topups import TopUp
from tallystick.payments.observing.crediting import credit, place_of
from tallystick.payments.observing.following import (
    Overtaken,
    hold_cursor,
    read_cursor,
    transfers_of,
)
from tallystick.payments.observing.matching import Rate
from tallystick.payments.permits import is_redeemed_row
from tallystick.payments.rail import Rail
from tallystick.payments.topups import open_found
from tallystick.payments.witness import Heard, hear

_log = get_logger(__name__)
_BATCH = 50
NEVER_PRESENTED = bytes(16)
"""In place of the request that a claim is bound to."""


async def find_unclaimed(
    session: ReadSession | WriteSession, rail: Rail, money: ClaimedMoney
) -> ChainTransfer | None:
    """The Transfer of this authorization that waits in suspense, if the books have it."""
    query = select(ChainTransfer).where(
        # To whichever address was ours at the time. By the chain alone SQLite would
        # look for it, and read all there is.
        col(ChainTransfer.chain_id) + 0 == money.chain_id,
        nonce_keeper() == money.token,
        col(ChainTransfer.sender) == money.payer,
        col(ChainTransfer.nonce) == money.nonce,
        col(ChainTransfer.value) == money.value,
        col(ChainTransfer.topup_id).is_(None),
        col(ChainTransfer.presence) == Presence.BOOKED,
    )
    return (await session.exec(query.limit(1))).one_or_none()


async def used_at_seconds(db: Database, rail: Rail, money: ClaimedMoney) -> int | None:
    """When an authorization was used that is only now presented; None for others.

    Raises ``RpcUnavailable``.
    """
    async with db.read() as session:
        row = await find_unclaimed(session, rail, money)
    if row is None:
        return None
    block = await block_of(rail, row)
    return None if block is None else block.timestamp_seconds


async def block_of(rail: Rail, row: ChainTransfer) -> Block | None:
    """The Transfer's block, as long as the chain has it; raises ``RpcUnavailable``."""
    # The observer may not have noticed yet that it was replaced.
    block = await rail.chain.block(row.block_number)
    return block if block is not None and block.hash == bytes(row.block_hash) else None


def as_seen(row: ChainTransfer, block: Block) -> TransferLog:
    """The Transfer as evidence told it when it was booked."""
    return TransferLog(
        tx_hash=bytes(row.tx_hash),
        block_number=row.block_number,
        block_hash=bytes(row.block_hash),
        log_index=row.log_index,
        timestamp_seconds=block.timestamp_seconds,
        payer=bytes(row.sender),
        pay_to=bytes(row.pay_to),
        amount=UsdcAtomic(row.value),
        nonce=None if row.nonce is None else bytes(row.nonce),
        authority=None if row.authority is None else bytes(row.authority),
    )


async def is_still_booked(session: WriteSession, row: ChainTransfer) -> bool:
    """Whether it is as it was read; then no reorganisation takes it in between."""
    booked = (
        col(ChainTransfer.id) == row.id,
        col(ChainTransfer.presence) == Presence.BOOKED,
        col(ChainTransfer.generation) == row.generation,
        col(ChainTransfer.block_hash) == row.block_hash,
        # Nor has it become a top-up's meanwhile.
        col(ChainTransfer.topup_id).is_not_distinct_from(row.topup_id),
    )
    kept = await session.exec(
        update(ChainTransfer)
        .where(*booked)
        .values(presence=Presence.BOOKED)
        .execution_options(synchronize_session=False)
    )
    return kept.rowcount == 1


@dataclass(frozen=True, slots=True)
class Finder:
    """For whom an unclaimed payment is credited, and at which rate."""

    customer_id: int
    rate: Rate


async def credit_unclaimed(
    session: WriteSession, rail: Rail, finder: Finder, heard: Heard
) -> TopUp | None:
    """Claim the payment for its payer's customer, and credit it if that may be by now.

    None, and nothing written, when it was claimed before. The caller has seen to it
    that its Transfer is still booked.
    """
    seen = heard.seen
    assert seen.nonce is not None, "a plain transfer has no authorization"
    money = ClaimedMoney(
        chain_id=rail.domain.chain_id,
        token=seen.authority or rail.domain.contract,
        payer=seen.payer,
        nonce=seen.nonce,
        value=seen.amount,
        # What its payer signed besides is not in the logs.
        valid_after=0,
        valid_before=0,
        binding=NEVER_PRESENTED,
    )
    use = Use(finder.customer_id, "", MicroCredits(0), wait_ms=0)
    made = await claim(session, money, use, state=ClaimState.OVERTAKEN)
    if made is None:
        return None
    topup = await open_found(
        session,
        made,
        token=rail.domain.contract,
        pay_to=seen.pay_to,
        credits_bought=finder.rate.credits_for(seen.amount),
        catalog_version=finder.rate.catalog_version,
        scan_from_block=seen.block_number,
        purpose="never presented",
    )
    # Nobody waits for an answer, so nothing is held.
    await credit(session, place_of(rail), topup, heard, hold_seconds=0)
    await session.refresh(topup)
    return topup


async def credit_final_unclaimed(db: Database, rail: Rail, rate: Rate) -> int:
    """Credit what nobody has presented by the time its block is final; how much.

    Only where the payer's wallet is a customer's: somebody else's customer is made by a
    signature of his. Raises ``RpcUnavailable``.
    """
    final = await rail.chain.block("finalized")
    if final is None:
        return 0
    async with db.read() as session:
        cursor = await read_cursor(session, rail)
        found = await _final(session, rail, final)
    count = 0
    for row, customer_id in found:
        block = await block_of(rail, row)
        if block is None:
            continue
        heard = await hear(rail, as_seen(row, block))
        finder = Finder(customer_id, rate)
        if await db.write(partial(_credit, rail, cursor, finder, row, heard)):
            rail.changes.notify(customer_id)
            count += 1
    return count


async def _credit(
    rail: Rail,
    cursor: ChainCursor,
    finder: Finder,
    row: ChainTransfer,
    heard: Heard,
    session: WriteSession,
) -> bool:
    try:
        await hold_cursor(session, rail, cursor)
    except Overtaken:
        return False
    if not await is_still_booked(session, row):
        return False
    topup = await credit_unclaimed(session, rail, finder, heard)
    if topup is not None:
        named = encode_id("top", topup.id)
        _log.info("unclaimed_payment_claimed", topup=named, state=topup.state)
    return topup is not None


async def _final(
    session: ReadSession, rail: Rail, final: Block
) -> list[tuple[ChainTransfer, int]]:
    """With the customers whose wallets have paid them."""
    query = (
        select(ChainTransfer, Wallet.customer_id)
        .join(Wallet, col(Wallet.address) == col(ChainTransfer.sender))
        .outerjoin(
            Claim,
            (col(Claim.payer) == col(ChainTransfer.sender))
            & (col(Claim.nonce) == col(ChainTransfer.nonce))
            & (col(Claim.token) == nonce_keeper())
            & (col(Claim.chain_id) == col(ChainTransfer.chain_id)),
        )
        .where(
            *transfers_of(rail),
            col(ChainTransfer.presence) == Presence.BOOKED,
            col(ChainTransfer.topup_id).is_(None),
            col(ChainTransfer.nonce).is_not(None),
            col(ChainTransfer.block_number) <= final.number,
            col(Claim.id).is_(None),
            ~is_redeemed_row(),
        )
        .order_by(col(ChainTransfer.block_number))
        .limit(_BATCH)
    )
    return [(row, owner) for row, owner in await session.exec(query)]
