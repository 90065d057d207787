"""Credits going out: a charge at once, or a hold that becomes a charge."""

from dataclasses import dataclass
from functools import partial

from sqlalchemy import insert
from sqlmodel import col, select

from tallystick.credits import holds
from tallystick.credits.errors import UnknownHold
from tallystick.credits.limits import LimitTake, take
from tallystick.kernel.db import ReadSession, WriteSession, new_id, now_ms
from tallystick.kernel.money import CREDIT, Amount, MicroCredits, to_decimal
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.balances import customer_balance
from tallystick.ledger.errors import InsufficientCredits
from tallystick.ledger.journal import post
from tallystick.ledger.models import (
    LedgerAccount,
    LedgerTransaction,
    TransactionKind,
    TransferRow,
)
from tallystick.ledger.posting import Posted, Posting, Transfer
from tallystick.metering.models import UsageEvent


@dataclass(frozen=True, slots=True)
class Usage:
    """What is charged for: millionths of a unit, and a price in micro-credits.

    ``limits`` are what it takes of the limits that bind it.
    """

    customer_id: int
    feature: str
    quantity: int
    price: MicroCredits
    catalog_version: str
    limits: tuple[LimitTake, ...] = ()

    @property
    def memo(self) -> str:
        """What the statement says: ``10 portfolio_audit``."""
        if self.quantity == 1_000_000:
            return self.feature
        return f"{to_decimal(self.quantity):f} {self.feature}"


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge that was booked, in micro-credits.

    ``balance_after`` is the customer's balance right after it, the same for every
    replay. ``id`` is 0 for a use that cost nothing.
    """

    id: int
    deducted: MicroCredits
    balance_after: MicroCredits
    replayed: bool = False


async def charge(
    session: WriteSession, usage: Usage, *, idempotency_key: bytes | None
) -> Charge:
    """Charge at once, once per key, and take from the usage's limits with it.

    What lapsed holds have counts as the customer's, whether or not a sweeper runs: if he
    is short or reaches a limit they are closed first, and stay closed if he is refused.
    Raises ``InsufficientCredits``, ``IdempotencyMismatch``, ``LimitReached`` or
    ``UnknownLimit``; then nothing is charged and the caller's transaction must roll
    back. Raises ``ValueError`` for a free use that takes from limits under a key: it
    books nothing that could know the key, so its caller keeps the answer instead.
    """
    make_room = partial(holds.expire_lapsed_first, customer_id=usage.customer_id)
    if usage.price == 0:
        if usage.limits and idempotency_key is not None:
            raise ValueError("a use that costs nothing is not known by a key")
        await take(session, usage.limits, when_reached=make_room)
        funds = await customer_balance(session, usage.customer_id)
        return Charge(0, MicroCredits(0), funds.posted)
    posting = _posting(session, usage, idempotency_key)
    posted = await post(session, posting, when_short=make_room)
    if not posted.replayed:
        await take(session, usage.limits, when_reached=make_room)
    return await _finish(session, usage, posted)


def _posting(
    session: WriteSession, usage: Usage, idempotency_key: bytes | None
) -> Posting:
    key = idempotency_key or digest16(b"charge", new_id(session).to_bytes(8, "big"))
    spent = Transfer(
        chart.customer_credits(usage.customer_id),
        chart.feature_revenue(usage.feature),
        Amount(usage.price, CREDIT),
    )
    # It belongs to nothing but its use, which bears its id.
    return Posting(TransactionKind.CHARGE, key, [spent], "", usage.memo)


async def capture(
    session: WriteSession, hold_id: int, usage: Usage, amount: MicroCredits
) -> Charge:
    """Turn a hold into a charge of ``amount``, at most what was held.

    Raises ``UnknownHold``, ``HoldAlreadySettled`` or ``HoldTooSmall``.
    """
    posted = await holds.capture(session, hold_id, amount, memo=usage.memo)
    return await _finish(session, usage, posted)


async def captured(session: ReadSession, hold_id: int) -> Charge:
    """The charge that a captured hold became; raises ``UnknownHold`` for any other."""
    query = select(LedgerTransaction.id).where(
        col(LedgerTransaction.idempotency_key) == holds.charge_key(hold_id)
    )
    found = (await session.exec(query)).one_or_none()
    if found is None:
        raise UnknownHold(hold_id)
    taken, left = await _line(session, found)
    return Charge(found, taken, left, replayed=True)


async def charge_behind(
    session: ReadSession | WriteSession, customer_id: int, ledger_transaction_id: int
) -> Charge | None:
    """A charge of this customer that was booked before, as it was told then."""
    query = (
        select(TransferRow.amount, TransferRow.debit_balance_after)
        .join(
            LedgerTransaction,
            col(LedgerTransaction.id) == col(TransferRow.ledger_transaction_id),
        )
        .join(LedgerAccount, col(LedgerAccount.id) == col(TransferRow.debit_account_id))
        .where(
            col(TransferRow.ledger_transaction_id) == ledger_transaction_id,
            col(LedgerTransaction.kind) == TransactionKind.CHARGE,
            col(LedgerAccount.customer_id) == customer_id,
        )
    )
    row = (await session.exec(query)).one_or_none()
    if row is None or row[1] is None:
        return None
    taken, left = map(MicroCredits, row)
    return Charge(ledger_transaction_id, taken, left, replayed=True)


async def use_behind(
    session: ReadSession, customer_id: int, ledger_transaction_id: int
) -> UsageEvent | None:
    """What the customer used for a booked charge."""
    query = select(UsageEvent).where(
        col(UsageEvent.id) == ledger_transaction_id,
        col(UsageEvent.customer_id) == customer_id,
    )
    return (await session.exec(query)).one_or_none()


async def _finish(session: WriteSession, usage: Usage, posted: Posted) -> Charge:
    taken, left = await _line(session, posted.ledger_transaction_id)
    charged = Charge(posted.ledger_transaction_id, taken, left, posted.replayed)
    if not posted.replayed:
        await session.exec(insert(UsageEvent).values(_event(session, usage, charged)))
    return charged


def _event(session: WriteSession, usage: Usage, charged: Charge) -> dict[str, object]:
    return {
        "id": charged.id,
        "customer_id": usage.customer_id,
        "feature": usage.feature,
        "quantity": usage.quantity,
        "credits": charged.deducted,
        "catalog_version": usage.catalog_version,
        "occurred_at_ms": now_ms(session),
    }


async def _line(
    session: ReadSession | WriteSession, ledger_transaction_id: int
) -> tuple[MicroCredits, MicroCredits]:
    query = select(TransferRow.amount, TransferRow.debit_balance_after).where(
        col(TransferRow.ledger_transaction_id) == ledger_transaction_id
    )
    amount, balance_after = (await session.exec(query)).one()
    assert balance_after is not None, "a charge debits a customer"
    return MicroCredits(amount), MicroCredits(balance_after)


async def shortage(
    session: ReadSession | WriteSession, customer_id: int | None, price: MicroCredits
) -> InsufficientCredits:
    """The refusal with what the customer has available, for the answer."""
    if customer_id is None:
        return InsufficientCredits(price, 0)
    funds = await customer_balance(session, customer_id)
    return InsufficientCredits(price, funds.available)
