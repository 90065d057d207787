"""Money that came by a plain transfer, credited to whoever proves that it was his.

A transaction's hash is public, so it proves nothing (A06): the sending wallet must be
the caller's, which it became by a signature. The row in ``redemption`` lets each
Transfer be redeemed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.credits.debts import collect_from
from tallystick.credits.grants import PaidGrant, grant_paid
from tallystick.customers.wallets import (
    customer_of_wallet,
    ensure_customer_of_wallet,
)
from tallystick.kernel.db import (
    Database,
    ReadSession,
    WriteSession,
    insert_once,
    now_ms,
)
from tallystick.kernel.money import USDC, Amount, MicroCredits, UsdcAtomic, format_usdc
from tallystick.ledger import chart
from tallystick.ledger.references import reference_to
from tallystick.payments.crediting import redemption_key
from tallystick.payments.errors import (
    PayerNotLinked,
    TransferNotSafe,
    UnknownTransfer,
)
from tallystick.payments.matching import Rate
from tallystick.payments.models import ChainTransfer, Presence, Redemption
from tallystick.payments.rail import Rail


@dataclass(frozen=True, slots=True)
class Redeemer:
    """Who asks: a customer, or a wallet that has just signed and is nobody's yet."""

    customer_id: int | None
    stranger: bytes | None = None


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What the transaction's Transfers brought, in atomic USDC and micro-credits.

    ``replayed`` when an earlier request redeemed all of them.
    """

    customer_id: int
    usdc: UsdcAtomic
    credits: MicroCredits
    replayed: bool


async def redeem(
    db: Database, rail: Rail, rate: Rate, who: Redeemer, tx_hash: bytes
) -> Redeemed:
    """Credit the plain transfers of a transaction that the caller's wallets have sent.

    Raises ``UnknownTransfer`` when the books have none of it, ``PayerNotLinked`` when
    somebody else's wallet sent them, and ``TransferNotSafe`` before their block is safe.
    """
    async with db.read() as session:
        found = await _suspended(session, rail, tx_hash)
    if not found:
        raise UnknownTransfer
    async with db.read() as session:
        own = [one for one in found if await _is_own(session, who, one.sender)]
    if not own:
        raise PayerNotLinked
    for one in own:
        await _require_safe(rail, one)

    async def work(session: WriteSession) -> Redeemed:
        customer_id = who.customer_id
        if customer_id is None:
            customer_id = await ensure_customer_of_wallet(session, own[0].sender)
        done = [await _redeem(session, rail, rate, customer_id, one) for one in own]
        return Redeemed(
            customer_id,
            UsdcAtomic(sum(one.value for one in own)),
            MicroCredits(sum(credits_got for credits_got, _ in done)),
            replayed=all(replayed for _, replayed in done),
        )

    return await db.write(work)


async def _require_safe(rail: Rail, one: ChainTransfer) -> None:
    if one.block_number > rail.outlook.safe_number:
        raise TransferNotSafe
    # The observer may not have noticed yet that it was replaced.
    block = await rail.chain.block(one.block_number)
    if block is None or block.hash != bytes(one.block_hash):
        raise TransferNotSafe


async def _suspended(
    session: ReadSession, rail: Rail, tx_hash: bytes
) -> Sequence[ChainTransfer]:
    query = select(ChainTransfer).where(
        # To whichever address was ours at the time.
        col(ChainTransfer.chain_id) == rail.domain.chain_id,
        col(ChainTransfer.token) == rail.domain.contract,
        col(ChainTransfer.tx_hash) == tx_hash,
        # An authorization's money is for whoever presents it.
        col(ChainTransfer.nonce).is_(None),
        col(ChainTransfer.presence) == Presence.BOOKED,
    )
    return (await session.exec(query.order_by(col(ChainTransfer.log_index)))).all()


async def _is_own(session: ReadSession, who: Redeemer, sender: bytes) -> bool:
    if who.customer_id is None:
        return who.stranger == sender
    return await customer_of_wallet(session, sender) == who.customer_id


async def _redeem(
    session: WriteSession,
    rail: Rail,
    rate: Rate,
    customer_id: int,
    one: ChainTransfer,
) -> tuple[int, bool]:
    """The credits, and whether they were given before."""
    await _require_booked(session, one)
    bought = rate.credits_for(UsdcAtomic(one.value))
    row: dict[str, object] = {
        "chain_transfer_id": one.id,
        "generation": one.generation,
        "customer_id": customer_id,
        "credits": bought,
        "catalog_version": rate.catalog_version,
        "redeemed_at_ms": now_ms(session),
    }
    if not await insert_once(session, Redemption, row):
        return await _given_before(session, customer_id, one), True
    posted = await grant_paid(
        session,
        PaidGrant(
            customer_id=customer_id,
            credits=bought,
            cost=Amount(one.value, USDC),
            paid_into=chart.suspense(rail.network, rail.domain.contract),
            idempotency_key=redemption_key(one.id, one.generation),
            reference=reference_to("redemption", one.id),
            memo=f"Transfer of {format_usdc(one.value)}",
        ),
    )
    if await _was_redeemed(session, one):
        await collect_from(session, customer_id, [posted.ledger_transaction_id])
    return bought, False


async def _require_booked(session: WriteSession, one: ChainTransfer) -> None:
    """As it was read; from here on no reorganisation takes it away in between."""
    booked = (
        col(ChainTransfer.id) == one.id,
        col(ChainTransfer.presence) == Presence.BOOKED,
        col(ChainTransfer.generation) == one.generation,
        col(ChainTransfer.block_hash) == one.block_hash,
    )
    kept = await session.exec(
        update(ChainTransfer)
        .where(*booked)
        .values(presence=Presence.BOOKED)
        .execution_options(synchronize_session=False)
    )
    if kept.rowcount != 1:
        raise UnknownTransfer


async def _was_redeemed(session: WriteSession, one: ChainTransfer) -> bool:
    """Whether it was redeemed before its block was replaced, here or in another."""
    before = (
        select(Redemption.credits)
        .join(
            ChainTransfer,
            col(ChainTransfer.id) == col(Redemption.chain_transfer_id),
        )
        .where(
            col(ChainTransfer.tx_hash) == one.tx_hash,
            col(ChainTransfer.sender) == one.sender,
            (col(ChainTransfer.presence) == Presence.GONE)
            | (col(Redemption.generation) < col(ChainTransfer.generation)),
        )
    )
    return (await session.exec(before.limit(1))).one_or_none() is not None


async def _given_before(
    session: WriteSession, customer_id: int, one: ChainTransfer
) -> int:
    query = select(Redemption.customer_id, Redemption.credits).where(
        col(Redemption.chain_transfer_id) == one.id,
        col(Redemption.generation) == one.generation,
    )
    owner, credits_got = (await session.exec(query)).one()
    if owner != customer_id:
        raise PayerNotLinked
    return credits_got
