"""Grants and holds.

A grant says where credits came from and what they cost, and never changes. What is
left of them is the ledger's lot of the same id.
"""

from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field, SQLModel

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
    burn order; the view ``hold_draw`` reads both.
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
