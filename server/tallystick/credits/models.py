"""Grants, holds and limits.

A grant says where credits came from and what they cost, and never changes. What is
left of them is the ledger's lot of the same id.
"""

from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from tallystick.kernel.money import AMOUNT_LIMIT
from tallystick.kernel.tables import (
    big_column,
    id_column,
    one_of,
    reference_column,
)


class GrantCategory(StrEnum):
    """Where granted credits come from."""

    PAID = "paid"
    """Bought; never expires."""
    TRIAL = "trial"
    """Given to try the product."""
    PROMOTIONAL = "promotional"
    """Given by the seller."""
    PLAN = "plan"
    """Included in a plan's period."""


class Grant(SQLModel, table=True):
    """Credits given to a customer, with what was paid for them; its lot has its id.

    ``amount`` is micro-credits; ``cost_amount`` atomic units of ``cost_asset``.
    """

    __tablename__ = "credit_grant"  # GRANT is a word of SQL
    __table_args__ = (
        one_of("category", GrantCategory),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint(
            "(cost_amount IS NULL) = (cost_asset IS NULL)", name="cost_has_asset"
        ),
    )

    id: int = Field(sa_column=id_column())
    customer_id: int = Field(sa_column=big_column(index=True))
    category: str
    amount: int = Field(sa_column=big_column())
    cost_amount: int | None = Field(default=None, sa_column=big_column(nullable=True))
    cost_asset: str | None = None
    # One grant for each transaction that books it.
    ledger_transaction_id: int = Field(
        sa_column=reference_column("ledger_transaction.id", unique=True)
    )
    granted_at_ms: int = Field(sa_column=big_column())


class Receivable(SQLModel, table=True):
    """What a customer owes, in micro-credits: the balance of ``chart.receivable``.

    Written only together with that account's transfers (``debts``).
    """

    __table_args__ = (CheckConstraint("owed >= 0", name="owed"),)

    ledger_account_id: int = Field(
        sa_column=reference_column(
            "ledger_account.id", primary_key=True, autoincrement=False
        )
    )
    customer_id: int = Field(sa_column=big_column(unique=True))
    owed: int = Field(sa_column=big_column())


class HoldState(StrEnum):
    """A hold is settled once: captured, released or expired."""

    OPEN = "open"
    """The call is running; its credits are set aside."""
    CAPTURED = "captured"
    """All or part of it was charged; the rest is free again."""
    RELEASED = "released"
    """The call came to nothing; nothing was charged."""
    EXPIRED = "expired"
    """Nobody settled it in time; nothing was charged."""


class Hold(SQLModel, table=True):
    """Micro-credits set aside for a call that is running.

    ``lot_id`` or ``lots`` name the lots that they were drawn from (``lots.pack``), in
    burn order; the view ``hold_draw`` reads both. ``limits`` says what was taken of
    which limits (``limits.pack_taken``); the view ``hold_limit`` reads it.
    """

    __table_args__ = (
        one_of("state", HoldState),
        CheckConstraint("amount > 0", name="amount"),
        CheckConstraint(
            "captured >= 0 AND captured <= amount", name="captured_within_amount"
        ),
        # Settled holds are a history that only grows; no query looks them up.
        Index(
            "ix_hold_open_expires_at",
            "expires_at_ms",
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
        Index(
            "ix_hold_open_customer",
            "customer_id",
            "expires_at_ms",
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
    )

    id: int = Field(sa_column=id_column())
    customer_id: int = Field(sa_column=big_column())
    feature: str
    amount: int = Field(sa_column=big_column())
    captured: int = Field(sa_column=big_column())
    state: str
    placed_at_ms: int = Field(sa_column=big_column())
    expires_at_ms: int = Field(sa_column=big_column())
    settled_at_ms: int | None = Field(default=None, sa_column=big_column(nullable=True))
    lot_id: int | None = Field(default=None, sa_column=big_column(nullable=True))
    lots: str | None = None
    limits: str | None = None


class LimitPeriod(StrEnum):
    """How long a limit counts before it begins anew; by the calendar, in UTC."""

    TOTAL = "total"
    """It never begins anew."""
    HOUR = "hour"
    """Anew with each full hour."""
    DAY = "day"
    """Anew at midnight."""
    MONTH = "month"
    """Anew at midnight before the first day of a month."""


class SpendLimit(SQLModel, table=True):
    """At most so much of something for a subject in each window of a period.

    Who sets it knows what ``most`` and ``used`` count: micro-credits, uses, millionths
    of a unit. ``used`` belongs to the window that ends before ``ends_at_ms``; a window
    that is over counts as empty, whether or not somebody wrote it.
    """

    __tablename__ = "spend_limit"  # LIMIT is a word of SQL
    __table_args__ = (
        one_of("period", LimitPeriod),
        UniqueConstraint("subject", "name"),
        CheckConstraint("used >= 0", name="used_not_negative"),
        CheckConstraint("used <= highest", name="used_within_highest"),
        CheckConstraint(
            f"most >= 0 AND most <= highest AND highest < {AMOUNT_LIMIT}",
            name="most_within_highest",
        ),
        CheckConstraint(
            "(ends_at_ms IS NULL) = (period = 'total')", name="total_never_ends"
        ),
    )

    id: int = Field(sa_column=id_column())
    subject: str
    name: str
    most: int = Field(sa_column=big_column())
    # The largest ``most`` of this window, so that the database itself refuses more.
    highest: int = Field(sa_column=big_column())
    used: int = Field(sa_column=big_column())
    period: str
    ends_at_ms: int | None = Field(default=None, sa_column=big_column(nullable=True))
    # Rises with each window, so that what was taken goes back to its own or to none.
    window_number: int = Field(sa_column=big_column())
