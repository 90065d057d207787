"""The one row that says which installation this database belongs to."""

from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import big_column, id_column


class Installation(SQLModel, table=True):
    """Made by the first migration; ``boots`` counts processes and gives id slots.

    ``seals`` counts the journal's seals, so that none can be cut off the end unseen.
    """

    id: int = Field(sa_column=id_column())
    boots: int = Field(sa_column=big_column())
    seals: int = Field(default=0, sa_column=big_column())
    created_at_ms: int = Field(sa_column=big_column())
