"""Paybacks, and what counts against their bounds."""

from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    Index,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import (
    big_column,
    bytes_column,
    id_column,
    one_of,
    reference_column,
)


class PaybackState(StrEnum):
    """Where a payback stands."""

    PROPOSED = "proposed"
    """Its credits are out of their lot; a second operator has yet to approve."""
    APPROVED = "approved"
    """It may be issued; nothing of it can move money yet."""
    ISSUED = "issued"
    """What moves its money is signed, or was handed out to be signed."""
    PAID = "paid"
    """A final block shows its Transfer, and it is booked out."""
    CANCELLED = "cancelled"
    """Nothing can move its money any more, and its credits are back in their lot."""


class PaybackWay(StrEnum):
    """Who signs for the money."""

    FLOAT = "float"
    """A key of the server's that holds little, with caps."""
    BROWSER = "browser"
    """The key of ``pay_to``, in the operator's browser."""
    SAFE = "safe"
    """The owners of ``pay_to``, if it is a Safe: a batch of plain transfers."""


_ISSUED = "state = 'issued'"
IS_ISSUED: ColumnElement[bool] = literal_column(f"payback.{_ISSUED}")
"""As the index has it: values that are bound later would not match it."""


class Payback(SQLModel, table=True):
    """Unused credits of one payment on their way back to its payer, as USDC.

    The payment is a top-up or a redeemed Transfer. ``number`` counts its paybacks;
    ``nonce`` follows from it (EIP-3009), so that whatever is signed for this payback
    moves its money at most once. ``valid_before`` is the end of the latest window that
    was handed out to be signed.
    """

    __table_args__ = (
        one_of("state", PaybackState),
        one_of("way", PaybackWay),
        CheckConstraint("credits > 0 AND usdc > 0", name="amounts"),
        CheckConstraint("approved_by <> proposed_by", name="two_operators"),
        CheckConstraint(
            "state NOT IN ('issued', 'paid')"
            " OR (way IS NOT NULL AND from_address IS NOT NULL)",
            name="issued_has_way",
        ),
        CheckConstraint(
            "(state = 'paid') = (tx_hash IS NOT NULL)"
            " AND (tx_hash IS NULL) = (log_index IS NULL)",
            name="paid_has_transfer",
        ),
        CheckConstraint(
            "(topup_id IS NULL) <> (chain_transfer_id IS NULL)", name="of_one"
        ),
        UniqueConstraint("topup_id", "number"),
        UniqueConstraint("chain_transfer_id", "number"),
        UniqueConstraint("nonce"),
        # One Transfer ends one payback.
        Index(
            "uq_payback_transfer",
            "chain_id",
            "tx_hash",
            "log_index",
            unique=True,
            sqlite_where=text("tx_hash IS NOT NULL"),
            postgresql_where=text("tx_hash IS NOT NULL"),
        ),
        Index(
            "ix_payback_issued",
            "chain_id",
            sqlite_where=text(_ISSUED),
            postgresql_where=text(_ISSUED),
        ),
    )

    id: int = Field(sa_column=id_column())
    topup_id: int | None = Field(
        default=None, sa_column=reference_column("topup.id", nullable=True)
    )
    number: int
    customer_id: int = Field(sa_column=reference_column("customer.id", index=True))
    chain_id: int = Field(sa_column=big_column())
    token: bytes = Field(sa_column=bytes_column(size=20))
    # The payment's payer, and nobody else.
    to_address: bytes = Field(sa_column=bytes_column(size=20))
    credits: int = Field(sa_column=big_column())
    usdc: int = Field(sa_column=big_column())
    nonce: bytes = Field(sa_column=bytes_column(size=32))
    state: str
    proposed_by: str
    reason: str
    approved_by: str | None = None
    way: str | None = None
    from_address: bytes | None = Field(
        default=None, sa_column=bytes_column(size=20, nullable=True)
    )
    issued_by: str | None = None
    # The head by then: no Transfer of an earlier block can be this payback's.
    issued_block: int | None = Field(default=None, sa_column=big_column(nullable=True))
    valid_before: int | None = Field(default=None, sa_column=big_column(nullable=True))
    signature: bytes | None = Field(
        default=None, sa_column=bytes_column(size=8192, nullable=True)
    )
    # Of the transaction that an operator says has executed the batch.
    named_tx: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    cancelled_by: str | None = None
    cancel_reason: str | None = None
    tx_hash: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    log_index: int | None = None
    block_number: int | None = Field(default=None, sa_column=big_column(nullable=True))
    proposed_at_ms: int = Field(sa_column=big_column())
    changed_at_ms: int = Field(sa_column=big_column())
    # Instead of a top-up: the plain Transfer that was redeemed.
    chain_transfer_id: int | None = Field(
        default=None, sa_column=reference_column("chain_transfer.id", nullable=True)
    )


class PaidBack(SQLModel, table=True):
    """What goes back or went back of a top-up: never more than it brought.

    Atomic USDC; cancelled ones do not count. ``last_number`` is that of its newest
    payback.
    """

    __tablename__ = "paid_back"
    __table_args__ = (
        CheckConstraint("usdc >= 0 AND usdc <= paid", name="usdc_within_paid"),
    )

    topup_id: int = Field(
        sa_column=reference_column("topup.id", primary_key=True, autoincrement=False)
    )
    paid: int = Field(sa_column=big_column())
    usdc: int = Field(sa_column=big_column())
    last_number: int


class TransferPaidBack(SQLModel, table=True):
    """The same of a plain Transfer that was redeemed."""

    __tablename__ = "transfer_paid_back"
    __table_args__ = (
        CheckConstraint("usdc >= 0 AND usdc <= paid", name="usdc_within_paid"),
    )

    chain_transfer_id: int = Field(
        sa_column=reference_column(
            "chain_transfer.id", primary_key=True, autoincrement=False
        )
    )
    paid: int = Field(sa_column=big_column())
    usdc: int = Field(sa_column=big_column())
    last_number: int


class FloatDay(SQLModel, table=True):
    """What the float was told to pay on a UTC day, counted from the Unix epoch."""

    __tablename__ = "float_day"
    __table_args__ = (CheckConstraint("usdc >= 0", name="usdc"),)

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    day: int = Field(primary_key=True)
    usdc: int = Field(sa_column=big_column())
