"""Keys, and the sign-in nonces that were used."""

from enum import StrEnum

from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import (
    big_column,
    bytes_column,
    id_column,
    one_of,
    reference_column,
)


class KeyKind(StrEnum):
    """Whose key it is."""

    CUSTOMER = "customer"
    """``tk_``: reads and spends one customer's credits at catalog price."""
    SERVICE = "service"
    """``sk_``: the seller's own; acts for any customer."""


class ApiKey(SQLModel, table=True):
    """A key of which only a keyed hash is stored; the secret is shown once."""

    __tablename__ = "api_key"
    __table_args__ = (one_of("kind", KeyKind),)

    id: int = Field(sa_column=id_column())
    kind: str
    customer_id: int | None = Field(
        default=None,
        sa_column=reference_column("customer.id", nullable=True, index=True),
    )
    name: str
    secret_mac: bytes = Field(sa_column=bytes_column(size=32))
    scopes: str
    created_at_ms: int = Field(sa_column=big_column())
    expires_at_ms: int | None = Field(default=None, sa_column=big_column(nullable=True))
    revoked_at_ms: int | None = Field(default=None, sa_column=big_column(nullable=True))


class UsedNonce(SQLModel, table=True):
    """A sign-in nonce that has been used; its UNIQUE row makes it single-use."""

    __tablename__ = "used_nonce"

    nonce_digest: bytes = Field(sa_column=bytes_column(size=16, primary_key=True))
    expires_at_ms: int = Field(sa_column=big_column(index=True))
