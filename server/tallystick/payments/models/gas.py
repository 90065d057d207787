"""What gas may cost and has cost, in wei."""

from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    ForeignKey,
    Index,
    literal_column,
    text,
)
from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import (
    big_column,
    bytes_column,
    one_of,
)


class GasDay(SQLModel, table=True):
    """What a key's transactions of one day cost, and may yet; days are UTC's.

    ``reserved`` is for those that may still be mined, ``spent`` what the others cost,
    ``wasted`` what of that moved no money. ``day`` counts from the Unix epoch.
    """

    __tablename__ = "gas_day"
    __table_args__ = (
        CheckConstraint("reserved >= 0", name="reserved"),
        CheckConstraint("wasted >= 0 AND wasted <= spent", name="wasted"),
    )

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    relayer: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    day: int = Field(primary_key=True)
    reserved: int = Field(sa_column=big_column())
    spent: int = Field(sa_column=big_column())
    wasted: int = Field(sa_column=big_column())


class PayerGas(SQLModel, table=True):
    """What came to nothing of one payer's settlements of one day, and what may yet."""

    __tablename__ = "payer_gas"
    __table_args__ = (
        CheckConstraint("reserved >= 0", name="reserved"),
        CheckConstraint("wasted >= 0", name="wasted"),
    )

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    payer: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    day: int = Field(primary_key=True)
    reserved: int = Field(sa_column=big_column())
    wasted: int = Field(sa_column=big_column())


class GasOutcome(StrEnum):
    """What became of a signed transaction."""

    OPEN = "open"
    """It may still be mined."""
    SUCCEEDED = "succeeded"
    """Mined, and it did what it was for."""
    REVERTED = "reverted"
    """Mined, and it moved nothing."""
    NOT_MINED = "not_mined"
    """Another has its nonce."""


IS_OPEN_GAS: ColumnElement[bool] = literal_column("relayed_gas.outcome = 'open'")
"""As the index has it."""


class RelayedGas(SQLModel, table=True):
    """What a signed transaction reserved of its day, and what it cost.

    An attempt that replaces others reserves what it may cost beyond them. ``cost`` is
    what it took when it was mined; ``spent`` is its part of what its nonce cost, which
    is divided by what each attempt had reserved, because each counts on its own day.
    ``wasted`` is all of ``spent`` if no money was moved, and the payer's if he is named.
    All of ``spent`` is also the merchant's for whom it was, if it was for one.
    """

    __tablename__ = "relayed_gas"
    __table_args__ = (
        one_of("outcome", GasOutcome),
        CheckConstraint("reserved >= 0", name="reserved"),
        CheckConstraint("outcome <> 'open' OR (cost = 0 AND spent = 0)", name="open"),
        CheckConstraint("wasted = 0 OR wasted = spent", name="wasted"),
        Index("ix_relayed_gas_evm_nonce", "chain_id", "relayer", "evm_nonce"),
        Index(
            "ix_relayed_gas_open",
            "chain_id",
            "relayer",
            sqlite_where=text("outcome = 'open'"),
            postgresql_where=text("outcome = 'open'"),
        ),
    )

    tx_hash: bytes = Field(
        sa_column=bytes_column(
            ForeignKey("relayed_transaction.tx_hash"), size=32, primary_key=True
        )
    )
    chain_id: int = Field(sa_column=big_column())
    relayer: bytes = Field(sa_column=bytes_column(size=20))
    evm_nonce: int = Field(sa_column=big_column())
    payer: bytes | None = Field(
        default=None, sa_column=bytes_column(size=20, nullable=True)
    )
    day: int
    reserved: int = Field(sa_column=big_column())
    outcome: str
    cost: int = Field(sa_column=big_column())
    spent: int = Field(sa_column=big_column())
    wasted: int = Field(sa_column=big_column())
    merchant_id: int | None = Field(default=None, sa_column=big_column(nullable=True))
