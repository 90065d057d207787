"""Top-ups, and what relayers and facilitators were given for them."""

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
from tallystick.payments.models.merchants import MerchantSettlement


class TopUpState(StrEnum):
    """Where a purchase of credits stands."""

    CLAIMED = "claimed"
    """To be settled; nothing is signed."""
    SIGNED = "signed"
    """Our transaction is signed and stored; only evidence changes this state."""
    WATCH = "watch"
    """Its nonce is used or unclear; the logs are asked."""
    REJECTED = "rejected"
    """The simulation said no and nothing was signed."""
    EXPIRED = "expired"
    """Its window closed at finalized without a settlement."""
    CANCELED = "canceled"
    """Nothing will be credited for it: its payer cancelled it on chain, used its nonce
    otherwise or redeemed its money; or an operator closed it."""
    CREDITED = "credited"
    """The money arrived in a canonical block and the credits are granted."""
    SAFE = "safe"
    """Its block is safe."""
    FINAL = "final"
    """Its block is finalized."""
    REVERSED = "reversed"
    """Its block vanished and the credits were taken back."""
    QUARANTINE = "quarantine"
    """The evidence contradicts itself; a person must look."""


OPEN_STATES = (TopUpState.CLAIMED, TopUpState.SIGNED, TopUpState.WATCH)
PENDING_STATES = (*OPEN_STATES, TopUpState.REVERSED)
"""Nobody knows yet whether its money arrives."""
PAID_STATES = (TopUpState.CREDITED, TopUpState.SAFE, TopUpState.FINAL)
REFUSED_STATES = (TopUpState.REJECTED, TopUpState.EXPIRED, TopUpState.CANCELED)
"""Its money will not arrive, so its payer may pay again."""
_PENDING = "state IN ('claimed', 'signed', 'watch', 'reversed')"
IS_PENDING: ColumnElement[bool] = literal_column(f"topup.{_PENDING}")
"""As the index has it: values that are bound later would not match it."""


class TopUp(SQLModel, table=True):
    """A purchase of credits by one payment authorization.

    ``value`` is atomic USDC, ``credits`` the micro-credits quoted for exactly that
    value. ``in_flight`` marks the one settlement that a wallet may have at a time.
    """

    __tablename__ = "topup"
    __table_args__ = (
        one_of("state", TopUpState),
        CheckConstraint("value > 0", name="value"),
        CheckConstraint("credits >= 0", name="credits"),
        CheckConstraint(
            "state NOT IN ('credited', 'safe', 'final')"
            " OR (tx_hash IS NOT NULL AND block_hash IS NOT NULL)",
            name="credit_has_anchor",
        ),
        # Parallel calls of one wallet make one settlement at a time.
        Index(
            "uq_topup_in_flight_wallet",
            "chain_id",
            "payer",
            unique=True,
            sqlite_where=text("in_flight"),
            postgresql_where=text("in_flight"),
        ),
        Index(
            "ix_topup_open",
            "next_look_at_ms",
            sqlite_where=text(_PENDING),
            postgresql_where=text(_PENDING),
        ),
        Index("ix_topup_payer", "payer", "chain_id"),
        Index("ix_topup_state_block_number", "state", "block_number"),
        Index(
            "ix_topup_failed_valid_before",
            "valid_before",
            sqlite_where=text("state IN ('rejected', 'expired', 'canceled')"),
            postgresql_where=text("state IN ('rejected', 'expired', 'canceled')"),
        ),
    )

    id: int = Field(sa_column=id_column())
    claim_id: int = Field(sa_column=reference_column("claim.id", unique=True))
    customer_id: int = Field(sa_column=reference_column("customer.id", index=True))
    chain_id: int = Field(sa_column=big_column())
    token: bytes = Field(sa_column=bytes_column(size=20))
    payer: bytes = Field(sa_column=bytes_column(size=20))
    pay_to: bytes = Field(sa_column=bytes_column(size=20))
    nonce: bytes = Field(sa_column=bytes_column(size=32))
    value: int = Field(sa_column=big_column())
    valid_after: int = Field(sa_column=big_column())
    valid_before: int = Field(sa_column=big_column())
    # Gone for a top-up that was found on chain without ever being presented to us.
    signature: bytes | None = Field(
        default=None, sa_column=bytes_column(size=8192, nullable=True)
    )
    credits: int = Field(sa_column=big_column())
    # Micro-credits on top, which nobody paid for (a pack's bonus).
    bonus: int = Field(sa_column=big_column())
    catalog_version: str
    purpose: str
    state: str
    generation: int
    in_flight: bool
    reason: str | None = None
    scan_from_block: int = Field(sa_column=big_column())
    tx_hash: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    block_number: int | None = Field(default=None, sa_column=big_column(nullable=True))
    block_hash: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    log_index: int | None = None
    balance_after: int | None = Field(default=None, sa_column=big_column(nullable=True))
    # What of it counts as exposed: credited in a block that was not safe (I10).
    exposed: int | None = Field(default=None, sa_column=big_column(nullable=True))
    created_at_ms: int = Field(sa_column=big_column())
    next_look_at_ms: int = Field(sa_column=big_column())
    # The contract whose nonce it is, if it is not the token's own (EIP-3009): Permit2.
    authority: bytes | None = Field(
        default=None, sa_column=bytes_column(size=20, nullable=True)
    )


Payment = TopUp | MerchantSettlement
"""What our relayers settle: a purchase of credits, or another seller's payment."""


class Exposure(SQLModel, table=True):
    """What a customer, 0 for all together, has of payments that are not safe yet (I10).

    In atomic units of the token.
    """

    __table_args__ = (CheckConstraint("provisional >= 0", name="provisional"),)

    chain_id: int = Field(sa_column=big_column(primary_key=True))
    customer_id: int = Field(sa_column=big_column(primary_key=True))
    provisional: int = Field(sa_column=big_column())


class RelayerRow(SQLModel, table=True):
    """A key that pays gas, with the next nonce that it will sign.

    ``owner`` is the process that may sign with it until ``leased_until_ms``; ``fence``
    grows with every change of owners, so that an old one signs nothing any more.
    """

    __tablename__ = "relayer"

    address: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    chain_id: int = Field(sa_column=big_column(primary_key=True))
    next_nonce: int = Field(sa_column=big_column())
    owner: bytes | None = Field(
        default=None, sa_column=bytes_column(size=16, nullable=True)
    )
    fence: int = Field(sa_column=big_column())
    leased_until_ms: int = Field(sa_column=big_column())


class SentKind(StrEnum):
    """What one of our transactions does."""

    SETTLEMENT = "settlement"
    """Captures an authorization."""
    FILLER = "filler"
    """Nothing: takes a nonce that would hold up the later ones."""


class RelayedTransaction(SQLModel, table=True):
    """A signed transaction, stored before it is sent, so that it can be sent again.

    Attempts at one nonce replace each other, each with higher fees: settlements of one
    authorization, or a filler once that has died. A filler without an authorization
    takes a nonce that was never ours. Fees in wei for each unit of gas.
    """

    __tablename__ = "relayed_transaction"
    __table_args__ = (
        UniqueConstraint("chain_id", "relayer", "evm_nonce", "attempt"),
        one_of("kind", SentKind),
        CheckConstraint(
            "kind = 'filler' OR topup_id IS NOT NULL"
            " OR merchant_settlement_id IS NOT NULL",
            name="topup",
        ),
        # What is a merchant's is nobody's credits.
        CheckConstraint(
            "topup_id IS NULL OR merchant_settlement_id IS NULL", name="one_of_them"
        ),
    )

    tx_hash: bytes = Field(sa_column=bytes_column(size=32, primary_key=True))
    topup_id: int | None = Field(
        default=None,
        sa_column=reference_column("topup.id", nullable=True, index=True),
    )
    chain_id: int = Field(sa_column=big_column())
    relayer: bytes = Field(sa_column=bytes_column(size=20))
    evm_nonce: int = Field(sa_column=big_column())
    attempt: int
    raw: bytes = Field(sa_column=bytes_column(size=32768))
    signed_at_ms: int = Field(sa_column=big_column())
    # When a process last took its turn to send the bytes.
    sent_at_ms: int = Field(sa_column=big_column())
    kind: str
    gas_limit: int = Field(sa_column=big_column())
    max_fee_per_gas: int = Field(sa_column=big_column())
    max_priority_fee_per_gas: int = Field(sa_column=big_column())
    # Instead of a top-up: what it settles for another seller.
    merchant_settlement_id: int | None = Field(
        default=None,
        sa_column=reference_column("merchant_settlement.id", nullable=True, index=True),
    )


class WorkerRow(SQLModel, table=True):
    """A process that settles and observes, and when it said so last."""

    __tablename__ = "worker"

    owner: bytes = Field(sa_column=bytes_column(size=16, primary_key=True))
    chain_id: int = Field(sa_column=big_column())
    seen_at_ms: int = Field(sa_column=big_column())
    # Why it could settle nothing by EIP-3009 then, in words; None when it could.
    obstacle: str | None = None
    # The same of what relayers alone settle, and of what is deployed with its wallet.
    permit2_obstacle: str | None = None
    erc6492_obstacle: str | None = None


class SettleAttempt(SQLModel, table=True):
    """One request to a facilitator, stored before it is sent; its answer is a hint.

    ``tx_hash`` is the transaction that the answer named, ``proven_hash`` the one that
    the chain shows to have moved the money because we asked (decision 23).
    ``asked_at`` is in seconds of the chain, ``waits_ms`` how long it is given.
    """

    __tablename__ = "settle_attempt"
    __table_args__ = (
        CheckConstraint("waits_ms >= 0", name="waits_ms"),
        CheckConstraint(
            "answer IN ('settled', 'pending', 'failed', 'unclear', 'unreachable')",
            name="answer",
        ),
    )

    topup_id: int = Field(
        sa_column=reference_column("topup.id", primary_key=True, autoincrement=False)
    )
    attempt: int = Field(primary_key=True)
    facilitator: str
    asked_at: int = Field(sa_column=big_column())
    sent_at_ms: int = Field(sa_column=big_column())
    waits_ms: int = Field(sa_column=big_column())
    answered_at_ms: int | None = Field(
        default=None, sa_column=big_column(nullable=True)
    )
    answer: str | None = None
    status: int | None = None
    reason: str | None = None
    tx_hash: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
    proven_hash: bytes | None = Field(
        default=None, sa_column=bytes_column(size=32, nullable=True)
    )
