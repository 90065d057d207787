"""Customers and their wallets."""

from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import (
    big_column,
    bytes_column,
    id_column,
    reference_column,
)


class Customer(SQLModel, table=True):
    """Who owns credits. Personal data never stands here."""

    id: int = Field(sa_column=id_column())
    created_at_ms: int = Field(sa_column=big_column())


class Wallet(SQLModel, table=True):
    """An address whose holder has proven by a signature that he is the customer.

    The address is the key: a wallet belongs to one customer.
    """

    address: bytes = Field(sa_column=bytes_column(size=20, primary_key=True))
    customer_id: int = Field(sa_column=reference_column("customer.id", index=True))
    proven_at_ms: int = Field(sa_column=big_column())
