"""What was used."""

from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import big_column, id_column


class UsageEvent(SQLModel, table=True):
    """One charged use of a feature; ``id`` is that of the transaction that charged it.

    ``quantity`` counts the feature's unit in millionths, ``credits`` is micro-credits.
    A customer's uses are found through the lines of his statement: an index by customer
    would cost every charge a page.
    """

    __tablename__ = "usage_event"

    id: int = Field(sa_column=id_column())
    customer_id: int = Field(sa_column=big_column())
    feature: str
    quantity: int = Field(sa_column=big_column())
    credits: int = Field(sa_column=big_column())
    catalog_version: str
    occurred_at_ms: int = Field(sa_column=big_column())
