"""Where drawn credits had come from, and what they had cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import col, select

from tallystick.credits.models import Grant
from tallystick.kernel.db import ReadSession
from tallystick.kernel.money import ASSETS, Asset, MicroCredits
from tallystick.ledger.lots import Draw


@dataclass(frozen=True, slots=True)
class Origin:
    """A draw, in micro-credits and signed as it was, with the grant behind its lot.

    ``cost`` is what just these credits had cost, in atomic units of ``cost_asset``,
    to the nearest unit; both are None for what was given. A lot that another customer's
    credits became has no grant, so no category either.
    """

    lot_id: int
    amount: MicroCredits
    category: str | None
    cost: int | None
    cost_asset: Asset | None


async def origins_of(session: ReadSession, draws: Sequence[Draw]) -> list[Origin]:
    """The draws in their order, each with its grant."""
    if not draws:
        return []
    query = select(Grant).where(col(Grant.id).in_([draw.lot_id for draw in draws]))
    grants = {one.id: one for one in (await session.exec(query)).all()}
    return [_origin(draw, grants.get(draw.lot_id)) for draw in draws]


def _origin(draw: Draw, grant: Grant | None) -> Origin:
    amount = MicroCredits(draw.amount)
    if grant is None or grant.cost_amount is None or grant.cost_asset is None:
        category = None if grant is None else grant.category
        return Origin(draw.lot_id, amount, category, None, None)
    # Half a unit up, in whole numbers only.
    doubled = 2 * abs(amount) * grant.cost_amount + grant.amount
    cost = doubled // (2 * grant.amount)
    return Origin(draw.lot_id, amount, grant.category, cost, ASSETS[grant.cost_asset])
