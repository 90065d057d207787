"""Booking off what has expired, for those who do not come themselves.

No balance depends on this: an expired lot is spent by nobody, and whoever touches the
account books its breakage first. It keeps statements and revenue up to date.
"""

from sqlmodel import col, select

from tallystick.kernel.db import WriteSession, now_ms
from tallystick.ledger.change import change
from tallystick.ledger.models import AccountBalance
from tallystick.ledger.page import Page


async def settle_due(session: WriteSession, *, limit: int = 200) -> int:
    """Bring up to date the customers whose lots began to count or expired; how many.

    At most ``limit``, those due longest first. Whoever is being changed by somebody
    else just now is left aside.
    """
    now = now_ms(session)
    account = col(AccountBalance.ledger_account_id)
    due = (
        select(AccountBalance.customer_id)
        .where(col(AccountBalance.next_change_ms) <= now)
        .order_by(col(AccountBalance.next_change_ms), account)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    customers = list((await session.exec(due)).all())

    def nothing_else(page: Page) -> None:
        """What is due is booked around every change."""

    if customers:
        await change(session, customers, nothing_else, now=now)
    return len(customers)
