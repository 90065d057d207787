"""Debts that are not asked for any more: written off by an operator."""

from dataclasses import dataclass

from sqlmodel import col, select

from tallystick.credits.debts import change_debt, owed_by
from tallystick.credits.models import Receivable
from tallystick.kernel.db import ReadSession, WriteSession, new_id, now_ms
from tallystick.kernel.errors import Conflict
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import CREDIT, Amount, MicroCredits, to_decimal
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.change import change
from tallystick.ledger.journal import post
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer
from tallystick.ledger.references import reference_to


class OwesLess(Conflict):
    """More was to be written off than the customer owes."""

    is_for_operators = True
    title = "The customer owes less"
    next_step = (
        "See what he owes with `tallystick debt list`, and write off at most that."
    )

    def __init__(self, customer_id: int, owed: MicroCredits) -> None:
        name, shown = encode_id("cus", customer_id), to_decimal(owed)
        super().__init__(f"{name} owes {shown:f} credits", owed=f"{shown:f}")


@dataclass(frozen=True, slots=True)
class Debt:
    """What a customer owes, in micro-credits."""

    customer_id: int
    owed: MicroCredits


async def debts(session: ReadSession) -> list[Debt]:
    """Everybody who owes something, the largest debt first."""
    query = (
        select(Receivable.customer_id, Receivable.owed)
        .where(col(Receivable.owed) > 0)
        .order_by(col(Receivable.owed).desc(), col(Receivable.customer_id))
    )
    rows = await session.exec(query)
    return [Debt(customer, MicroCredits(owed)) for customer, owed in rows]


async def forgive(
    session: WriteSession,
    customer_id: int,
    amount: MicroCredits | None = None,
    *,
    memo: str,
) -> MicroCredits:
    """Write off so many micro-credits of what the customer owes, all by default.

    Returns how many it were. Raises ``InvalidAmount``, and ``OwesLess`` when he owes
    less, or nothing.
    """
    # Whoever collects the debt reads it under this lock.
    await change(session, [customer_id], lambda _: None, now=now_ms(session), lock=True)
    owed = await owed_by(session, customer_id)
    written_off = owed if amount is None else amount
    if not owed or written_off > owed:
        raise OwesLess(customer_id, owed)
    debt = chart.receivable(customer_id)
    transfer = Transfer(chart.bad_debts(), debt, Amount(written_off, CREDIT))
    key = digest16(b"written off", new_id(session).to_bytes(8, "big"))
    reference = reference_to("customer", customer_id)
    posting = Posting(TransactionKind.WRITE_OFF, key, [transfer], reference, memo)
    await post(session, posting)
    await change_debt(session, customer_id, -written_off)
    return written_off
