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
from tallystick.payments.gas.budget import (
    Bound,
    NoBudget,
    data_fee,
    reserve_more,
)
from tallystick.payments.models.topups import Payment, RelayedTransaction, SentKind
from tallystick.payments.rail import Rail, Relayer
from tallystick.payments.relaying.efforts import MOST_TIMES
from tallystick.payments.relaying.relayer import (
    NothingStored,
    Place,
    require_lease,
    row_for,
    sign_settlement,
    signed_for,
    store_row,
)
from tallystick.payments.relaying.sending import deliver, is_settlement, take_turn
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpenNonce:
    """A nonce of ours that was in no block when we looked; its newest attempt first."""

    relayer: Relayer
    attempts: Sequence[RelayedTransaction]
    topup: Payment | None

    @property
    def newest(self) -> RelayedTransaction:
        return self.attempts[0]


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is to be signed for a top-up, if for one: its settlement, or a filler."""

    place: Place
    bound: Bound
    topup: Payment | None
    kind: SentKind = SentKind.FILLER


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
        await _send_again(db, rail, newest)
        return
    fee = await data_fee(rail, len(newest.raw))
    bound = Bound(newest.gas_limit, price, fee)
    draft = _Draft(_next_place(rail, one), bound, one.topup, SentKind.SETTLEMENT)
    try:
        await _sign_and_send(db, rail, draft)
    except NoBudget:
        _tell_of_budget(draft)
        await _send_again(db, rail, newest)


async def _send_again(db: Database, rail: Rail, newest: RelayedTransaction) -> None:
    if await take_turn(db, rail, newest):
        await deliver(rail, newest)


async def fill(db: Database, rail: Rail, one: OpenNonce) -> None:
    """Give the nonce to a transaction of nothing, with fees that replace what was sent.

    Needs the sequence's lock; raises ``RpcUnavailable``.
    """
    price = _raised(one.newest, await fees(rail.chain))
    bound = Bound(PLAIN_TRANSFER_GAS, price, await data_fee(rail, 0))
    draft = _Draft(_next_place(rail, one), bound, one.topup)
    try:
        await _sign_and_send(db, rail, draft)
    except NoBudget:
        _tell_of_budget(draft)
        if not is_settlement(one.newest):
            await _send_again(db, rail, one.newest)


async def close_hole(db: Database, rail: Rail, relayer: Relayer, nonce: int) -> None:
    """Fill a nonce of which we know nothing, unless a node has something for it.

    It was somebody else's, or ours before the database was restored, and its block was
    replaced. Needs the sequence's lock; raises ``RpcUnavailable``.
    """
    if await rail.chain.nonce(relayer.address, "pending") > nonce:
        return
    place = Place(relayer, _fence(rail, relayer), nonce)
    price = await fees(rail.chain)
    bound = Bound(PLAIN_TRANSFER_GAS, price, await data_fee(rail, 0))
    draft = _Draft(place, bound, None)
    try:
        await _sign_and_send(db, rail, draft)
    except NoBudget:
        _tell_of_budget(draft)


def _tell_of_budget(draft: _Draft) -> None:
    _log.error(
        "relayer_budget_in_the_way",
        relayer=checksum_address(draft.place.relayer.address),
        evm_nonce=draft.place.nonce,
    )


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
    place, topup = draft.place, draft.topup
    signed = await _sign(rail, draft)
    row = row_for(rail, place, signed, topup, draft.bound, kind=draft.kind)
    what = signed_for(signed, place, topup)

    async def store(session: WriteSession) -> RelayedTransaction:
        await require_lease(session, rail, place)
        stored = await store_row(session, row)
        await reserve_more(session, rail, what, draft.bound)
        return stored

    try:
        stored = await db.write(store)
    except NothingStored:
        return
    _log.info(
        "relayer_nonce_signed_again",
        relayer=checksum_address(place.relayer.address),
        evm_nonce=place.nonce,
        attempt=place.attempt,
        kind=draft.kind,
    )
    await deliver(rail, stored)


async def _sign(rail: Rail, draft: _Draft) -> SignedTransaction:
    place, bound = draft.place, draft.bound
    if draft.kind == SentKind.SETTLEMENT:
        assert draft.topup is not None, "a settlement is a payment's"
        return await sign_settlement(rail, place, draft.topup, bound)
    key, price = place.relayer.key, bound.price
    return await asyncio.to_thread(sign_filler, rail.chain, key, place.nonce, price)
