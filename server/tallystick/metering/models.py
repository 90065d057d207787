"""What was used."""

from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import big_column, id_column, reference_column


class UsageEvent(SQLModel, table=True):
    """One charged use of a feature.

    ``quantity`` counts the feature's unit in millionths, ``credits`` is micro-credits.
    """

    __tablename__ = "usage_event"

    id: int = Field(sa_column=id_column())
    customer_id: int = Field(sa_column=reference_column("customer.id", index=True))
    feature: str
    quantity: int = Field(sa_column=big_column())
    credits: int = Field(sa_column=big_column())
    catalog_version: str
    ledger_transaction_id: int = Field(
        sa_column=reference_column("ledger_transaction.id", unique=True)
    )
    occurred_at_ms: int = Field(sa_column=big_column())
