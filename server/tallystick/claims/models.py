"""One row for each payment authorization that was ever presented."""

from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import (
    big_column,
    bytes_column,
    id_column,
    one_of,
    reference_column,
)


class ClaimState(StrEnum):
    """What an authorization is used for, decided once."""

    CLAIMED = "claimed"
    """Undecided: its wallet has another settlement in flight."""
    WAIVED = "waived"
    """It proved the wallet; credits paid. Our relayer never signs it."""
    OVERTAKEN = "overtaken"
    """Somebody else submitted it before we did: its payer got the credits."""
    SETTLING = "settling"
    """It became a top-up, and its claim is kept for ever."""


class Claim(SQLModel, table=True):
    """The permanent claim on (chain, contract, payer, nonce), before any effect.

    ``binding`` stands for the one request the nonce identifies: method, path, query
    and body. No signature is kept here: what we do not have, we cannot send. ``value``
    is atomic USDC, windows are seconds as signed. One that was never presented, only
    found on the chain, has no window and is bound to nothing: zeros. ``identifier``
    stands for the payer's own name of the payment; of his claims one has it.
    """

    __table_args__ = (
        one_of("state", ClaimState),
        # The key names the money in canonical bytes and not the header or signature:
        # one authorization has many encodings.
        UniqueConstraint("chain_id", "token", "payer", "nonce", name="uq_claim_money"),
        CheckConstraint("value > 0", name="value"),
        Index(
            "uq_claim_identifier",
            "payer",
            "identifier",
            unique=True,
            sqlite_where=text("identifier IS NOT NULL"),
            postgresql_where=text("identifier IS NOT NULL"),
        ),
        Index(
            "ix_claim_unsettled_valid_before",
            "valid_before",
            sqlite_where=text("state IN ('waived', 'claimed')"),
            postgresql_where=text("state IN ('waived', 'claimed')"),
        ),
    )

    id: int = Field(sa_column=id_column())
    chain_id: int = Field(sa_column=big_column())
    # The contract that lets the nonce be used once: the token, or Permit2.
    token: bytes = Field(sa_column=bytes_column(size=20))
    payer: bytes = Field(sa_column=bytes_column(size=20))
    nonce: bytes = Field(sa_column=bytes_column(size=32))
    value: int = Field(sa_column=big_column())
    valid_after: int = Field(sa_column=big_column())
    valid_before: int = Field(sa_column=big_column())
    binding: bytes = Field(sa_column=bytes_column(size=16))
    customer_id: int = Field(sa_column=reference_column("customer.id", index=True))
    state: str
    # What the call costs, in micro-credits; 0 for a purchase of credits.
    charge: int = Field(sa_column=big_column())
    feature: str
    hold_id: int | None = Field(default=None, sa_column=big_column(nullable=True))
    # Until then a request waits for the decision; later another may take it over.
    waiting_until_ms: int = Field(sa_column=big_column())
    claimed_at_ms: int = Field(sa_column=big_column())
    identifier: bytes | None = Field(
        default=None, sa_column=bytes_column(size=16, nullable=True)
    )
