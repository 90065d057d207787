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
from tallystick.ledger.errors import IdempotencyMismatch
from tallystick.ledger.journal import post
from tallystick.ledger.models import LedgerTransaction, TransactionKind, TransferRow
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


@dataclass(frozen=True, slots=True)
class Forgiven:
    """How many micro-credits were written off; ``replayed`` when a first try did it."""

    amount: MicroCredits
    replayed: bool


async def forgive(
    session: WriteSession,
    customer_id: int,
    amount: MicroCredits | None = None,
    *,
    memo: str,
    idempotency_key: bytes | None = None,
) -> Forgiven:
    """Write off so many micro-credits of what the customer owes, all by default.

    Once per key of 16 bytes, if there is one. Raises ``InvalidAmount``, ``OwesLess``
    when he owes less, or nothing, and ``IdempotencyMismatch`` when the key wrote off
    something else.
    """
    # Whoever collects the debt reads it under this lock.
    await change(session, [customer_id], lambda _: None, now=now_ms(session), lock=True)
    reference = reference_to("customer", customer_id)
    if earlier := await _earlier(session, idempotency_key):
        if earlier[0] != reference or amount not in {None, earlier[1]}:
            raise IdempotencyMismatch
        return Forgiven(earlier[1], replayed=True)
    owed = await owed_by(session, customer_id)
    written_off = owed if amount is None else amount
    if not owed or written_off > owed:
        raise OwesLess(customer_id, owed)
    debt = chart.receivable(customer_id)
    transfer = Transfer(chart.bad_debts(), debt, Amount(written_off, CREDIT))
    key = idempotency_key or digest16(
        b"written off", new_id(session).to_bytes(8, "big")
    )
    posting = Posting(TransactionKind.WRITE_OFF, key, [transfer], reference, memo)
    await post(session, posting)
    await change_debt(session, customer_id, -written_off)
    return Forgiven(written_off, replayed=False)


async def _earlier(
    session: WriteSession, key: bytes | None
) -> tuple[str, MicroCredits] | None:
    """Of whom and how much the key wrote off, if it did anything."""
    query = (
        select(LedgerTransaction.reference, TransferRow.amount)
        .join(
            TransferRow,
            col(TransferRow.ledger_transaction_id) == col(LedgerTransaction.id),
        )
        .where(col(LedgerTransaction.idempotency_key) == key)
    )
    row = (await session.exec(query)).first() if key is not None else None
    return None if row is None else (row[0], MicroCredits(row[1]))
