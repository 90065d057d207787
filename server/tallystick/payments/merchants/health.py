"""How settlements for other sellers are doing, by the database."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func
from sqlmodel import col, select

from tallystick.kernel.db import ReadSession
from tallystick.payments.models.merchants import (
    IS_OPEN_SETTLEMENT,
    PENDING_SETTLEMENTS,
    Merchant,
    MerchantGas,
    MerchantSettlement,
    SettlementState,
)
from tallystick.payments.rail import Rail
from tallystick.payments.rules.gas import day_at

STUCK_SECONDS = 1_800
"""After the end of its window each settlement should have its outcome by then: a final
block says it, on Base some twenty minutes later."""


@dataclass(frozen=True, slots=True)
class OpenSettlements:
    """Settlements of one state; the oldest in seconds, money in atomic USDC.

    ``stuck`` are those that have no outcome long after their window.
    """

    state: str
    count: int
    oldest_seconds: int
    usdc: int
    stuck: int


@dataclass(frozen=True, slots=True)
class MerchantDay:
    """What one merchant's settlements of this UTC day cost, and may yet, in wei."""

    merchant_id: int
    spent: int
    reserved: int


@dataclass(frozen=True, slots=True)
class MerchantHealth:
    """``merchants`` counts those whose key is good. ``today`` is none who had nothing."""

    merchants: int
    open: tuple[OpenSettlements, ...]
    quarantined: int
    today: tuple[MerchantDay, ...]

    @property
    def stuck(self) -> int:
        """Settlements that have no outcome and should have one."""
        return sum(one.stuck for one in self.open)


async def merchant_health(session: ReadSession, rail: Rail, now: int) -> MerchantHealth:
    """What is known at this time of the database's, in milliseconds; asks no node."""
    active = select(func.count(col(Merchant.id))).where(
        col(Merchant.revoked_at_ms).is_(None)
    )
    quarantined = select(func.count(col(MerchantSettlement.id))).where(
        *_ours(rail), col(MerchantSettlement.state) == SettlementState.QUARANTINE
    )
    return MerchantHealth(
        merchants=(await session.exec(active)).one(),
        open=await _open(session, rail, now),
        quarantined=(await session.exec(quarantined)).one(),
        today=await _today(session, rail, day_at(now)),
    )


def _ours(rail: Rail) -> tuple[ColumnElement[bool], ...]:
    return (
        col(MerchantSettlement.chain_id) == rail.domain.chain_id,
        col(MerchantSettlement.token) == rail.domain.contract,
    )


async def _open(
    session: ReadSession, rail: Rail, now: int
) -> tuple[OpenSettlements, ...]:
    """With those that are settled: their blocks are not final yet."""
    stuck = await _stuck(session, rail, now // 1000 - STUCK_SECONDS)
    query = (
        select(
            MerchantSettlement.state,
            func.count(),
            func.min(MerchantSettlement.created_at_ms),
            func.sum(MerchantSettlement.value),
        )
        .where(*_ours(rail), IS_OPEN_SETTLEMENT)
        .group_by(col(MerchantSettlement.state))
        .order_by(col(MerchantSettlement.state))
    )
    return tuple(
        OpenSettlements(
            state,
            count,
            max(now - oldest, 0) // 1000,
            int(usdc),
            stuck.get(state, 0),
        )
        for state, count, oldest, usdc in await session.exec(query)
    )


async def _stuck(session: ReadSession, rail: Rail, ended_before: int) -> dict[str, int]:
    """How many of each state have no outcome, and a window that ended before."""
    query = (
        select(MerchantSettlement.state, func.count())
        .where(
            *_ours(rail),
            IS_OPEN_SETTLEMENT,
            col(MerchantSettlement.state).in_(PENDING_SETTLEMENTS),
            col(MerchantSettlement.valid_before) <= ended_before,
        )
        .group_by(col(MerchantSettlement.state))
    )
    return dict((await session.exec(query)).all())


async def _today(session: ReadSession, rail: Rail, day: int) -> tuple[MerchantDay, ...]:
    query = (
        select(MerchantGas)
        .where(
            col(MerchantGas.chain_id) == rail.domain.chain_id,
            col(MerchantGas.day) == day,
        )
        .order_by(col(MerchantGas.merchant_id))
    )
    return tuple(
        MerchantDay(one.merchant_id, one.spent, one.reserved)
        for one in await session.exec(query)
    )
