"""How paybacks are doing, by the database and by what this process saw last."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, case, func
from sqlmodel import col, select

from tallystick.kernel.db import ReadSession
from tallystick.payments.models.paybacks import Payback, PaybackState, PaybackWay
from tallystick.payments.paybacks.reading import issued_on
from tallystick.payments.rail import FloatFunds, Rail

FINALITY_SECONDS = 1_800
"""What was mined within its window is final by then; on Base it takes some twenty
minutes. Only what is older was not paid."""
NO_FUNDS = "insufficient_funds"
_UNPAID = (PaybackState.PROPOSED, PaybackState.APPROVED, PaybackState.ISSUED)


class Standing(StrEnum):
    """What an unpaid payback waits for."""

    PROPOSED = "proposed"
    """A second operator has yet to approve it."""
    APPROVED = "approved"
    """It has yet to be issued."""
    UNSIGNED = "unsigned"
    """Issued; the float's key or the seller has yet to sign."""
    BATCHED = "batched"
    """In a Safe's batch that no final block shows as executed."""
    SIGNED = "signed"
    """Signed; no final block shows its Transfer."""
    LAPSED = "lapsed"
    """Its window is over, and no final block shows its Transfer."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Paybacks of one standing; the oldest in seconds, money in atomic USDC."""

    standing: Standing
    count: int
    oldest_seconds: int
    usdc: int


@dataclass(frozen=True, slots=True)
class PaybackHealth:
    """``refused`` counts those that the float's worker could not send, by reason.

    ``funds`` is what the float had when it was asked last; None is not known.
    """

    waiting: tuple[Waiting, ...]
    refused: dict[str, int]
    funds: FloatFunds | None

    def of(self, standing: Standing) -> Waiting | None:
        """Those of this standing, if there are any."""
        return next((one for one in self.waiting if one.standing == standing), None)

    def reasons(self) -> Iterable[str]:
        """Why what the float was told to pay does not move, in words."""
        if self.refused.get(NO_FUNDS):
            yield "the float has too little USDC for what it was told to pay back"
        is_asked = self.of(Standing.UNSIGNED) or self.of(Standing.SIGNED)
        if is_asked and self.funds is not None and not self.funds.has_gas:
            yield "the float has no money for gas"


async def payback_health(session: ReadSession, rail: Rail, now: int) -> PaybackHealth:
    """What is known at this time of the database's, in milliseconds; asks no node."""
    standing = _standing(now // 1000 - FINALITY_SECONDS).label("standing")
    query = (
        select(
            standing,
            func.count(),
            func.min(Payback.changed_at_ms),
            func.sum(Payback.usdc),
        )
        .where(
            col(Payback.chain_id) == rail.domain.chain_id,
            col(Payback.token) == rail.domain.contract,
            col(Payback.state).in_(_UNPAID),
        )
        .group_by(standing)
        .order_by(standing)
    )
    waiting = tuple(
        Waiting(Standing(name), count, max(now - oldest, 0) // 1000, int(usdc))
        for name, count, oldest, usdc in await session.exec(query)
    )
    return PaybackHealth(waiting, await _refused(session, rail), rail.outlook.float_has)


def _standing(lapsed_before: int) -> ColumnElement[str]:
    state, issued = col(Payback.state), col(Payback.state) == PaybackState.ISSUED
    return case(
        (~issued, state),
        (col(Payback.valid_before) <= lapsed_before, Standing.LAPSED.value),
        (col(Payback.signature).is_not(None), Standing.SIGNED.value),
        (col(Payback.way) == PaybackWay.SAFE, Standing.BATCHED.value),
        else_=Standing.UNSIGNED.value,
    )


async def _refused(session: ReadSession, rail: Rail) -> dict[str, int]:
    """Of those that are still to be paid."""
    told = rail.outlook.told_of_paybacks
    if not told:
        return {}
    named = {payback_id for payback_id, _ in told}
    query = select(Payback.id).where(*issued_on(rail), col(Payback.id).in_(named))
    found = set((await session.exec(query)).all())
    counts: dict[str, int] = {}
    for payback_id, reason in told:
        if payback_id in found:
            counts[reason] = counts.get(reason, 0) + 1
    return counts
