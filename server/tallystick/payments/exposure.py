"""How much is credited before its block is safe, and how much may be (I10).

A block that is not safe may be replaced, and its payment with it. So what such blocks
have brought is counted, for each customer and for all together, in atomic units of the
token; a payment beyond a cap waits until its block is safe. What a reorganisation can
cost is then a number that the operator has chosen.
"""

from dataclasses import dataclass

from sqlalchemy import func, update
from sqlmodel import col, select

from tallystick.kernel.db import ReadSession, WriteSession, insert_once, now_ms
from tallystick.kernel.ids import first_id_at
from tallystick.payments.models.topups import Exposure, TopUp, TopUpState

_EVERYBODY = 0
_DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Caps:
    """What may be credited before its block is safe, in atomic units of the token.

    ``customer`` bounds each customer; all together may have ``floor``, or ``percent``
    of what became final within the last day if that is more.
    """

    customer: int
    floor: int
    percent: int

    async def total(self, session: ReadSession | WriteSession, chain_id: int) -> int:
        """For all together, now."""
        recent = (
            col(TopUp.chain_id) == chain_id,
            col(TopUp.state) == TopUpState.FINAL,
            # Ids rise with time, so this is a stretch of the primary key.
            col(TopUp.id) >= first_id_at(now_ms(session) - _DAY_MS),
        )
        query = select(func.coalesce(func.sum(TopUp.value), 0)).where(*recent)
        volume = int((await session.exec(query)).one())
        return max(self.floor, volume * self.percent // 100)


CAPS = Caps(customer=100 * 10**6, floor=1_000 * 10**6, percent=20)


class BeyondCap(Exception):
    """Too much would be credited before it is safe; nothing of the attempt may stay."""


async def expose(
    session: WriteSession, topup: TopUp, caps: Caps, total: int | None
) -> None:
    """Count the top-up's value until its block is safe.

    ``total`` is ``caps.total`` if that is known already: it reads a day's top-ups.
    Raises ``BeyondCap``: then what was written since the caller's savepoint must go.
    """
    if total is None:
        total = await caps.total(session, topup.chain_id)
    for customer_id, cap in ((topup.customer_id, caps.customer), (_EVERYBODY, total)):
        if not await _add(session, topup, customer_id, cap):
            raise BeyondCap
    await session.exec(
        update(TopUp).where(col(TopUp.id) == topup.id).values(exposed=topup.value)
    )


async def _add(session: WriteSession, topup: TopUp, customer_id: int, cap: int) -> bool:
    row: dict[str, object] = {
        "chain_id": topup.chain_id,
        "customer_id": customer_id,
        "provisional": 0,
    }
    await insert_once(session, Exposure, row)
    statement = (
        update(Exposure)
        .where(
            col(Exposure.chain_id) == topup.chain_id,
            col(Exposure.customer_id) == customer_id,
            col(Exposure.provisional) + topup.value <= cap,
        )
        .values(provisional=Exposure.provisional + topup.value)
        .execution_options(synchronize_session=False)
    )
    return (await session.exec(statement)).rowcount == 1


async def unexpose(session: WriteSession, topup_id: int) -> None:
    """Count it no more: its block is safe, or what it brought was taken back."""
    mine = (col(TopUp.id) == topup_id, col(TopUp.exposed).is_not(None))
    query = select(TopUp.chain_id, TopUp.customer_id, TopUp.exposed).where(*mine)
    found = (await session.exec(query)).one_or_none()
    done = await session.exec(update(TopUp).where(*mine).values(exposed=None))
    if found is None or done.rowcount != 1:
        return
    chain_id, customer_id, value = found
    assert value is not None
    for one in (customer_id, _EVERYBODY):
        await session.exec(
            update(Exposure)
            .where(col(Exposure.chain_id) == chain_id, col(Exposure.customer_id) == one)
            .values(provisional=Exposure.provisional - value)
            .execution_options(synchronize_session=False)
        )
