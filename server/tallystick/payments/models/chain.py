"""What the chain showed: money that came and went, how far it was read, and for whom."""

from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    Index,
    UniqueConstraint,
    func,
    literal_column,
    text,
)
from sqlmodel import Field, SQLModel, col

from tallystick.kernel.tables import (
    big_column,
    bytes_column,
    id_column,
    one_of,
    reference_column,
)


class Presence(StrEnum):
    """Whether the chain still shows a Transfer, and so whether the ledger has it."""

    BOOKED = "booked"
    """In the ledger, and in its block when we read that last."""
    MISSING = "missing"
    """In the ledger; its block was replaced, and those that replaced it are read."""
    GONE = "gone"
    """The chain has it no more, and the ledger has taken it back."""


IS_MISSING: ColumnElement[bool] = literal_column("chain_transfer.presence = 'missing'")
"""As the index has it."""
_UNCLAIMED = "topup_id IS NULL AND nonce IS NOT NULL"
_OF_A_TOPUP = "topup_id IS NOT NULL AND presence <> 'gone'"


class ChainTransfer(SQLModel, table=True):
    """Every Transfer to ``pay_to`` that a canonical block showed (I16).

    Without a top-up its money is in suspense. ``generation`` counts how often it was
    booked: a block that was replaced may come back.
    """

    __tablename__ = "chain_transfer"
    __table_args__ = (
        CheckConstraint("value > 0", name="value"),
        one_of("presence", Presence),
        # One credit for each log of a block (I7), whoever saw it first.
        UniqueConstraint("chain_id", "block_hash", "log_index"),
        Index(
            "ix_chain_transfer_authorization",
            "sender",
            "nonce",
            sqlite_where=text("nonce IS NOT NULL"),
            postgresql_where=text("nonce IS NOT NULL"),
        ),
        # And one Transfer for each top-up, of those that the chain has.
        Index(
            "uq_chain_transfer_topup",
            "topup_id",
            unique=True,
            sqlite_where=text(_OF_A_TOPUP),
            postgresql_where=text(_OF_A_TOPUP),
        ),
        Index("ix_chain_transfer_block_number", "chain_id", "block_number"),
        Index("ix_chain_transfer_tx_hash", "tx_hash"),
        Index(
            "ix_chain_transfer_unclaimed",
            "chain_id",
            "token",
            "pay_to",
            "block_number",
            sqlite_where=text(_UNCLAIMED),
            postgresql_where=text(_UNCLAIMED),
        ),
        Index(
            "ix_chain_transfer_missing",
            "chain_id",
            "block_number",
            sqlite_where=text("presence = 'missing'"),
            postgresql_where=text("presence = 'missing'"),
        ),
    )

    id: int = Field(sa_column=id_column())
    chain_id: int = Field(sa_column=big_column())
    token: bytes = Field(sa_column=bytes_column(size=20))
    block_number: int = Field(sa_column=big_column())
    block_hash: bytes = Field(sa_column=bytes_column(size=32))
    tx_hash: bytes = Field(sa_column=bytes_column(size=32))
    log_index: int
    sender: bytes = Field(sa_column=bytes_column(size=20))
    pay_to: bytes = Field(sa_column=bytes_column(size=20))
    value: int = Field(sa_column=big_column())
    # Of what its payer signed to move it; None for any other transfer.
    nonce: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    topup_id: int | None = Field(
        default=None, sa_column=reference_column("topup.id", nullable=True)
    )
    seen_at_ms: int = Field(sa_column=big_column())
    presence: str
    generation: int
    # The contract whose nonce it is, if it is not the token's own (EIP-3009): Permit2.
    authority: bytes | None = Field(
        default=None, sa_column=bytes_column(size=20, nullable=True)
    )


def nonce_keeper() -> ColumnElement[bytes]:
    """Of Transfers: the contract in which their nonce is used up, as claims name it."""
    return func.coalesce(col(ChainTransfer.authority), col(ChainTransfer.token))


IS_MISSING_OUTFLOW: ColumnElement[bool] = literal_column(
    "chain_outflow.presence = 'missing'"
)
"""As the index has it."""


class ChainOutflow(SQLModel, table=True):
    """Every Transfer out of ``pay_to`` that a canonical block showed (I16).

    Its money is the treasury's from then on, wherever it went. ``generation`` as a
    ``ChainTransfer`` has it.
    """

    __tablename__ = "chain_outflow"
    __table_args__ = (
        CheckConstraint("value > 0", name="value"),
        one_of("presence", Presence),
        # Booked once for each log of a block, whoever reads it.
        UniqueConstraint("chain_id", "block_hash", "log_index"),
        Index("ix_chain_outflow_block_number", "chain_id", "block_number"),
        Index(
            "ix_chain_outflow_missing",
            "chain_id",
            "block_number",
            sqlite_where=text("presence = 'missing'"),
            postgresql_where=text("presence = 'missing'"),
        ),
    )

    id: int = Field(sa_column=id_column())
    chain_id: int = Field(sa_column=big_column())
    token: bytes = Field(sa_column=bytes_column(size=20))
    block_number: int = Field(sa_column=big_column())
    block_hash: bytes = Field(sa_column=bytes_column(size=32))
    tx_hash: bytes = Field(sa_column=bytes_column(size=32))
    log_index: int
    pay_to: bytes = Field(sa_column=bytes_column(size=20))
    recipient: bytes = Field(sa_column=bytes_column(size=20))
    value: int = Field(sa_column=big_column())
    # Of the authorization that moved it (EIP-3009); None for any other transfer.
    nonce: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    seen_at_ms: int = Field(sa_column=big_column())
    presence: str
    generation: int


class Redemption(SQLModel, table=True):
    """A plain Transfer whose sender has proven that it was his; in micro-credits.

    ``generation`` is that of the Transfer: one that vanished and came back is redeemed
    again.
    """

    chain_transfer_id: int = Field(
        sa_column=reference_column(
            "chain_transfer.id", primary_key=True, autoincrement=False
        )
    )
    generation: int = Field(primary_key=True)
    customer_id: int = Field(sa_column=reference_column("customer.id"))
    credits: int = Field(sa_column=big_column())
    catalog_version: str
    redeemed_at_ms: int = Field(sa_column=big_column())


class RecentBlock(SQLModel, table=True):
    """A block that was read and was not final then, to know when it is replaced."""

    __tablename__ = "recent_block"

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    token: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    pay_to: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    number: int = Field(sa_column=big_column(primary_key=True))
    hash: bytes = Field(sa_column=bytes_column(size=32))


class ChainCursor(SQLModel, table=True):
    """How far the observer has read the Transfers to one address.

    The books begin with ``first_block``, whatever the settings say later.
    """

    __tablename__ = "chain_cursor"
    __table_args__ = (
        CheckConstraint(
            "(anchor_number IS NULL) = (anchor_hash IS NULL)", name="anchor"
        ),
    )

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    token: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    pay_to: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    first_block: int = Field(sa_column=big_column())
    block_number: int = Field(sa_column=big_column())
    block_hash: bytes = Field(sa_column=bytes_column(size=32))
    # What pay_to held before our books begin, in atomic USDC.
    opening_balance: int = Field(sa_column=big_column())
    # The newest final block that was read: no reorganisation replaces it.
    anchor_number: int | None = Field(default=None, sa_column=big_column(nullable=True))
    anchor_hash: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )


class Payee(SQLModel, table=True):
    """An address that is or was ``pay_to``; the one with the latest ``since_ms`` is.

    Books that were kept before outflows were read have some behind their cursor:
    blocks ``unread_from`` to ``unread_to``.
    """

    __table_args__ = (
        CheckConstraint(
            "(unread_from IS NULL) = (unread_to IS NULL)", name="unread_blocks"
        ),
    )

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    token: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    pay_to: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    since_ms: int = Field(sa_column=big_column())
    unread_from: int | None = Field(default=None, sa_column=big_column(nullable=True))
    unread_to: int | None = Field(default=None, sa_column=big_column(nullable=True))
    # Up to this block the dust is gathered; None before the first time.
    dust_upto: int | None = Field(default=None, sa_column=big_column(nullable=True))


class ChainDust(SQLModel, table=True):
    """What came in by plain Transfers too small for rows of their own, in some blocks.

    All of them were final. ``transfers`` is how many, ``value`` what in all.
    """

    __tablename__ = "chain_dust"
    __table_args__ = (
        CheckConstraint("value > 0 AND transfers > 0", name="value"),
        CheckConstraint("first_block <= last_block", name="blocks"),
    )

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    token: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    pay_to: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    first_block: int = Field(sa_column=big_column(primary_key=True))
    last_block: int = Field(sa_column=big_column())
    transfers: int
    value: int = Field(sa_column=big_column())
    gathered_at_ms: int = Field(sa_column=big_column())


class ChainCheckpoint(SQLModel, table=True):
    """A final block up to which books and chain were compared, log by log.

    ``came_in`` and ``went_out`` are all that moved since the books began, in atomic
    USDC; ``ledger_usdc`` is what the ledger had booked on the token by the transaction
    ``ledger_through_id``. ``digest`` seals the row and ``before``, the digest of the
    one before, which only one row follows.
    """

    __tablename__ = "chain_checkpoint"
    __table_args__ = (UniqueConstraint("chain_id", "token", "pay_to", "before"),)

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    token: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    pay_to: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    block_number: int = Field(sa_column=big_column(primary_key=True))
    block_hash: bytes = Field(sa_column=bytes_column(size=32))
    came_in: int = Field(sa_column=big_column())
    went_out: int = Field(sa_column=big_column())
    ledger_through_id: int = Field(sa_column=big_column())
    ledger_usdc: int = Field(sa_column=big_column())
    made_at_ms: int = Field(sa_column=big_column())
    before: bytes = Field(sa_column=bytes_column(size=16))
    digest: bytes = Field(sa_column=bytes_column(size=16))
