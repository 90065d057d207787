"""What a customer may spend, as a charge counts it: what lapsed holds have is his.

A charge that would be short closes them first (``holds.expire_lapsed_first``). Who only
tells a price closes nothing, and must come to the same figure.
"""

from collections.abc import Sequence

from sqlmodel import col, select

from tallystick.credits.models import Hold, HoldState
from tallystick.kernel.db import ReadSession, WriteSession, now_ms
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.balances import customer_balance
from tallystick.ledger.lots import Draw, unpack
from tallystick.ledger.models import LotRow


async def spendable(
    session: ReadSession | WriteSession, customer_id: int
) -> MicroCredits:
    """Micro-credits; zero for one who never had any."""
    funds = await customer_balance(session, customer_id)
    if not funds.held:
        return funds.available
    lapsed = select(Hold.lot_id, Hold.lots, Hold.amount).where(
        col(Hold.customer_id) == customer_id,
        col(Hold.state) == HoldState.OPEN,
        col(Hold.expires_at_ms) <= now_ms(session),
    )
    draws = [draw for row in await session.exec(lapsed) for draw in unpack(*row)]
    return MicroCredits(funds.available + await _returning(session, draws))


async def _returning(session: ReadSession | WriteSession, draws: Sequence[Draw]) -> int:
    """Not what returns to a lot that has expired: that is breakage."""
    if not draws:
        return 0
    expired = select(LotRow.id).where(
        col(LotRow.id).in_({draw.lot_id for draw in draws}),
        col(LotRow.expires_at_ms) <= now_ms(session),
    )
    gone = set((await session.exec(expired)).all())
    return sum(draw.amount for draw in draws if draw.lot_id not in gone)
