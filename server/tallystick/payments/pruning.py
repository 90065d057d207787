"""Forgetting what was settled for merchants, and counted of payers' gas, long ago.

A merchant's settlement is forgotten only when nothing can settle it again: its window
is over by a final block, so the token itself refuses it, and every nonce that we signed
for it is used in a final block. Whoever asks for it then is refused for its window.
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, and_, delete, false, func, or_, tuple_
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from tallystick.kernel.db import Database, ReadSession, WriteSession, now_ms
from tallystick.kernel.ids import first_id_at
from tallystick.kernel.log import get_logger
from tallystick.payments.gas.checks import KEPT_DAYS
from tallystick.payments.models.gas import (
    IS_OPEN_GAS,
    GasDay,
    GasOutcome,
    PayerGas,
    RelayedGas,
)
from tallystick.payments.models.merchants import MerchantSettlement, SettlementState
from tallystick.payments.models.topups import RelayedTransaction
from tallystick.payments.rail import Rail
from tallystick.payments.rules.gas import day_at

_log = get_logger(__name__)
KEPT_SECONDS = KEPT_DAYS * 24 * 3600
"""After its window; so long a merchant who asks again is told what became of it."""
_ENDED = (
    SettlementState.FINAL,
    SettlementState.REJECTED,
    SettlementState.EXPIRED,
    SettlementState.CANCELED,
)
"""Not what is in quarantine: a person has yet to look."""
_BATCH = 500


async def prune_settlements(db: Database, rail: Rail) -> int:
    """Forget merchants' settlements that are over for good; how many.

    Raises ``RpcUnavailable``; then nothing more is forgotten.
    """
    count = 0
    while True:
        async with db.read() as session:
            before = now_ms(session) // 1000 - KEPT_SECONDS
            found = await _candidates(session, rail, before)
        final = await rail.chain.block("finalized") if found else None
        if final is None:
            return count
        mined = await _final_nonces(db, rail, found)
        ended = min(before, final.timestamp_seconds)

        async def work(session: WriteSession) -> int:
            return await _forget(session, rail, found, ended, mined)  # noqa: B023  # called at once

        gone = await db.write(work)
        count += gone
        if gone < _BATCH:
            break
    if count:
        _log.info("merchant_settlements_forgotten", count=count)
    return count


def _is_over(rail: Rail, before: int) -> tuple[ColumnElement[bool], ...]:
    return (
        col(MerchantSettlement.chain_id) == rail.domain.chain_id,
        col(MerchantSettlement.token) == rail.domain.contract,
        col(MerchantSettlement.state).in_(_ENDED),
        col(MerchantSettlement.valid_before) < before,
    )


async def _candidates(session: ReadSession, rail: Rail, before: int) -> list[int]:
    """The oldest first: ids rise with time, so nothing young is read."""
    oldest_kept = await _oldest_kept_day(session, rail)
    query = (
        select(MerchantSettlement.id)
        .where(
            col(MerchantSettlement.id) < first_id_at(before * 1000),
            *_is_over(rail, before),
            ~_sent(_is_counted(oldest_kept)),
        )
        .order_by(col(MerchantSettlement.id))
        .limit(_BATCH)
    )
    return list((await session.exec(query)).all())


async def _oldest_kept_day(session: ReadSession | WriteSession, rail: Rail) -> int:
    """By the newest day as well as by the clock: either may be wrong."""
    newest = select(func.max(GasDay.day)).where(
        col(GasDay.chain_id) == rail.domain.chain_id
    )
    today = day_at(now_ms(session))
    found = (await session.exec(newest)).one()
    return min(today if found is None else found, today) - KEPT_DAYS


def _sent(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a transaction like that was signed for the settlement."""
    return (
        select(RelayedTransaction.tx_hash)
        .join(RelayedGas, col(RelayedGas.tx_hash) == col(RelayedTransaction.tx_hash))
        .where(
            col(RelayedTransaction.merchant_settlement_id)
            == col(MerchantSettlement.id),
            condition,
        )
        .exists()
    )


def _is_counted(oldest_kept: int) -> ColumnElement[bool]:
    """Its gas is still open or of a day that is kept, or its nonce is its key's last.

    The last one tells the next owner of the key where to go on.
    """
    later = aliased(RelayedTransaction)
    is_last = ~(
        select(later.tx_hash)
        .where(
            col(later.chain_id) == col(RelayedTransaction.chain_id),
            col(later.relayer) == col(RelayedTransaction.relayer),
            col(later.evm_nonce) > col(RelayedTransaction.evm_nonce),
        )
        .exists()
    )
    is_open = col(RelayedGas.outcome) == GasOutcome.OPEN
    return or_(is_open, col(RelayedGas.day) >= oldest_kept, is_last)


async def _final_nonces(
    db: Database, rail: Rail, settlements: Sequence[int]
) -> Mapping[bytes, int]:
    """How far a final block has come with each key that signed for these."""
    query = (
        select(RelayedTransaction.relayer)
        .where(col(RelayedTransaction.merchant_settlement_id).in_(settlements))
        .distinct()
    )
    async with db.read() as session:
        relayers = (await session.exec(query)).all()
    return {one: await rail.chain.nonce(one, "finalized") for one in relayers}


async def _forget(
    session: WriteSession,
    rail: Rail,
    settlements: Sequence[int],
    ended: int,
    mined: Mapping[bytes, int],
) -> int:
    """Those that are still as they were judged, with all that was signed for them."""
    is_final = or_(
        false(),
        *(
            and_(
                col(RelayedTransaction.relayer) == relayer,
                col(RelayedTransaction.evm_nonce) < nonce,
            )
            for relayer, nonce in mined.items()
        ),
    )
    is_counted = _is_counted(await _oldest_kept_day(session, rail))
    needed = or_(is_counted, ~is_final)
    over = (
        select(MerchantSettlement.id)
        .where(
            col(MerchantSettlement.id).in_(settlements),
            *_is_over(rail, ended),
            ~_sent(needed),
        )
        # One that was refused may be asked for anew at this moment.
        .with_for_update(skip_locked=True)
    )
    ids = (await session.exec(over)).all()
    if not ids:
        return 0
    sent = select(RelayedTransaction.tx_hash).where(
        col(RelayedTransaction.merchant_settlement_id).in_(ids)
    )
    await session.exec(delete(RelayedGas).where(col(RelayedGas.tx_hash).in_(sent)))
    of_them = col(RelayedTransaction.merchant_settlement_id).in_(ids)
    await session.exec(delete(RelayedTransaction).where(of_them))
    await session.exec(
        delete(MerchantSettlement).where(col(MerchantSettlement.id).in_(ids))
    )
    return len(ids)


async def prune_payer_gas(db: Database, rail: Rail) -> int:
    """Forget what counted against payers' budgets of days long ago; how many rows.

    Nothing of a day on which a transaction that is still open was signed: what that
    costs is yet to be counted there.
    """
    place = (col(PayerGas.chain_id), col(PayerGas.payer), col(PayerGas.day))
    count = 0
    while True:
        async with db.read() as session:
            before = await _first_counted_day(session, rail)
            query = (
                select(*place)
                .where(place[0] == rail.domain.chain_id, place[2] < before)
                .limit(_BATCH)
            )
            rows = (await session.exec(query)).all()
        if not rows:
            return count

        async def work(session: WriteSession) -> int:
            old = tuple_(*place).in_(rows)  # noqa: B023  # called at once
            return (await session.exec(delete(PayerGas).where(old))).rowcount

        count += await db.write(work)


async def _first_counted_day(session: ReadSession, rail: Rail) -> int:
    open_since = select(func.min(RelayedGas.day)).where(
        col(RelayedGas.chain_id) == rail.domain.chain_id, IS_OPEN_GAS
    )
    oldest_open = (await session.exec(open_since)).one()
    kept = await _oldest_kept_day(session, rail)
    return kept if oldest_open is None else min(kept, oldest_open)
