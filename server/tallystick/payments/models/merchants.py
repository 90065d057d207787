"""Other sellers for whom this server is the facilitator, and what it settles for them.

Nothing here is ours: a row has no customer, no credits and no place in the ledger, so
none can ever be credited (decision 28).
"""

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


class Merchant(SQLModel, table=True):
    """Another seller, who may have payments settled here with a key (``mk_``).

    Only a keyed hash of the key is stored; it is shown once.
    """

    id: int = Field(sa_column=id_column())
    name: str
    secret_mac: bytes = Field(sa_column=bytes_column(size=32))
    created_at_ms: int = Field(sa_column=big_column())
    revoked_at_ms: int | None = Field(default=None, sa_column=big_column(nullable=True))


class MerchantPayee(SQLModel, table=True):
    """An address that a merchant's payments may go to."""

    __tablename__ = "merchant_payee"

    merchant_id: int = Field(
        sa_column=reference_column("merchant.id", primary_key=True, autoincrement=False)
    )
    pay_to: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))


class SettlementState(StrEnum):
    """Where a merchant's settlement stands; the words are a top-up's where they can be."""

    CLAIMED = "claimed"
    """To be settled; nothing is signed."""
    SIGNED = "signed"
    """Our transaction is signed and stored; only evidence changes this state."""
    WATCH = "watch"
    """Its nonce is used or unclear; the logs are asked."""
    SETTLED = "settled"
    """A canonical block shows that the money arrived; it may be replaced yet."""
    FINAL = "final"
    """That block is final."""
    REJECTED = "rejected"
    """It cannot succeed, and nothing was signed; it may be asked for again."""
    EXPIRED = "expired"
    """Its window closed at finalized without a settlement."""
    CANCELED = "canceled"
    """Its payer cancelled it on chain."""
    QUARANTINE = "quarantine"
    """The evidence contradicts itself; a person must look."""


PENDING_SETTLEMENTS = (
    SettlementState.CLAIMED,
    SettlementState.SIGNED,
    SettlementState.WATCH,
)
SETTLED_STATES = (SettlementState.SETTLED, SettlementState.FINAL)
_OPEN = "state IN ('claimed', 'signed', 'watch', 'settled')"
IS_OPEN_SETTLEMENT: ColumnElement[bool] = literal_column(f"merchant_settlement.{_OPEN}")
"""As the index has it."""


class MerchantSettlement(SQLModel, table=True):
    """An authorization to a merchant that our relayers settle, once (I7).

    ``value`` is atomic USDC, the window in seconds. ``reason`` says why it is as it is.
    """

    __tablename__ = "merchant_settlement"
    __table_args__ = (
        one_of("state", SettlementState),
        CheckConstraint("value > 0", name="value"),
        CheckConstraint(
            "state NOT IN ('settled', 'final')"
            " OR (tx_hash IS NOT NULL AND block_hash IS NOT NULL)",
            name="settled_has_anchor",
        ),
        # Whoever asks, and however often: one settlement.
        UniqueConstraint("chain_id", "token", "payer", "nonce"),
        Index(
            "ix_merchant_settlement_open",
            "next_look_at_ms",
            sqlite_where=text(_OPEN),
            postgresql_where=text(_OPEN),
        ),
    )

    id: int = Field(sa_column=id_column())
    merchant_id: int = Field(sa_column=reference_column("merchant.id", index=True))
    chain_id: int = Field(sa_column=big_column())
    token: bytes = Field(sa_column=bytes_column(size=20))
    payer: bytes = Field(sa_column=bytes_column(size=20))
    pay_to: bytes = Field(sa_column=bytes_column(size=20))
    nonce: bytes = Field(sa_column=bytes_column(size=32))
    value: int = Field(sa_column=big_column())
    valid_after: int = Field(sa_column=big_column())
    valid_before: int = Field(sa_column=big_column())
    signature: bytes = Field(sa_column=bytes_column(size=8192))
    state: str
    reason: str | None = None
    scan_from_block: int = Field(sa_column=big_column())
    tx_hash: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    block_number: int | None = Field(default=None, sa_column=big_column(nullable=True))
    block_hash: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    created_at_ms: int = Field(sa_column=big_column())
    next_look_at_ms: int = Field(sa_column=big_column())


class MerchantGas(SQLModel, table=True):
    """What one merchant's settlements of one day cost, and may yet; wei, days of UTC."""

    __tablename__ = "merchant_gas"
    __table_args__ = (
        CheckConstraint("reserved >= 0", name="reserved"),
        CheckConstraint("spent >= 0", name="spent"),
    )

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    merchant_id: int = Field(
        sa_column=reference_column("merchant.id", primary_key=True, autoincrement=False)
    )
    day: int = Field(primary_key=True)
    reserved: int = Field(sa_column=big_column())
    spent: int = Field(sa_column=big_column())
