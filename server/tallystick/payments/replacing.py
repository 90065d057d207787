"""Signing a nonce once more: with higher fees, or for nothing at all.

All settlements at a nonce carry the same authorization, so at most one moves money. What
is signed is stored under the key's lease before it is sent, as the first time.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.chain.broadcast import PLAIN_TRANSFER_GAS
from tallystick.chain.relay import Fees, SignedTransaction, fees, sign_filler
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.log import get_logger
from tallystick.payments.efforts import MOST_TIMES
from tallystick.payments.models import RelayedTransaction, SentKind, TopUp
from tallystick.payments.rail import Rail, Relayer
from tallystick.payments.relayer import (
    NothingStored,
    Place,
    require_lease,
    row_for,
    sign_settlement,
    store_row,
)
from tallystick.payments.sending import deliver, is_settlement, take_turn
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenNonce:
    """A nonce of ours that was in no block when we looked; its newest attempt first."""

    relayer: Relayer
    attempts: Sequence[RelayedTransaction]
    topup: TopUp | None

    @property
    def newest(self) -> RelayedTransaction:
        return self.attempts[0]


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is to be signed: the settlement of a top-up, a filler without one."""

    place: Place
    price: Fees
    topup_id: int | None
    settles: TopUp | None = None
    gas: int = PLAIN_TRANSFER_GAS


async def raise_fees(db: Database, rail: Rail, one: OpenNonce) -> None:
    """Sign the same transaction with higher fees, within bounds, and send it.

    Needs the sequence's lock; raises ``RpcUnavailable``.
    """
    newest = one.newest
    if not is_settlement(newest):
        await fill(db, rail, one)
        return
    today = await fees(rail.chain)
    price = _raised(newest, today)
    if price.max_fee_per_gas > MOST_TIMES * today.max_fee_per_gas:
        # Its price is not what it waits for.
        if await take_turn(db, rail, newest):
            await deliver(rail, newest)
        return
    draft = _Draft(
        _next_place(rail, one), price, newest.topup_id, one.topup, newest.gas_limit
    )
    await _sign_and_send(db, rail, draft)


async def fill(db: Database, rail: Rail, one: OpenNonce) -> None:
    """Give the nonce to a transaction of nothing, with fees that replace what was sent.

    Needs the sequence's lock; raises ``RpcUnavailable``.
    """
    price = _raised(one.newest, await fees(rail.chain))
    draft = _Draft(_next_place(rail, one), price, one.newest.topup_id)
    await _sign_and_send(db, rail, draft)


async def close_hole(db: Database, rail: Rail, relayer: Relayer, nonce: int) -> None:
    """Fill a nonce of which we know nothing, unless a node has something for it.

    It was somebody else's, or ours before the database was restored, and its block was
    replaced. Needs the sequence's lock; raises ``RpcUnavailable``.
    """
    if await rail.chain.nonce(relayer.address, "pending") > nonce:
        return
    place = Place(relayer, _fence(rail, relayer), nonce)
    await _sign_and_send(db, rail, _Draft(place, await fees(rail.chain), None))


def _raised(before: RelayedTransaction, today: Fees) -> Fees:
    """What a node demands for a replacement, and at least today's fees."""
    bumped = Fees(before.max_fee_per_gas, before.max_priority_fee_per_gas).bumped()
    return Fees(
        max(bumped.max_fee_per_gas, today.max_fee_per_gas),
        max(bumped.max_priority_fee_per_gas, today.max_priority_fee_per_gas),
    )


def _fence(rail: Rail, relayer: Relayer) -> int:
    """The fence of our lease; -1, which is nobody's, without one."""
    fence = rail.sequence(relayer).fence
    return -1 if fence is None else fence


def _next_place(rail: Rail, one: OpenNonce) -> Place:
    fence = _fence(rail, one.relayer)
    return Place(one.relayer, fence, one.newest.evm_nonce, one.newest.attempt + 1)


async def _sign_and_send(db: Database, rail: Rail, draft: _Draft) -> None:
    kind = SentKind.SETTLEMENT if draft.settles else SentKind.FILLER
    row = row_for(
        rail,
        draft.place,
        await _sign(rail, draft),
        draft.topup_id,
        gas=draft.gas,
        price=draft.price,
        kind=kind,
    )

    async def store(session: WriteSession) -> RelayedTransaction:
        await require_lease(session, rail, draft.place)
        return await store_row(session, row)

    try:
        stored = await db.write(store)
    except NothingStored:
        return
    _log.info(
        "relayer_nonce_signed_again",
        relayer=checksum_address(draft.place.relayer.address),
        evm_nonce=draft.place.nonce,
        attempt=draft.place.attempt,
        kind=kind,
    )
    await deliver(rail, stored)


async def _sign(rail: Rail, draft: _Draft) -> SignedTransaction:
    place, price = draft.place, draft.price
    if draft.settles is not None:
        return await sign_settlement(
            rail, place, draft.settles, gas=draft.gas, price=price
        )
    key = place.relayer.key
    return await asyncio.to_thread(sign_filler, rail.chain, key, place.nonce, price)
