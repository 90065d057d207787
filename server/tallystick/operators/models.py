"""What operators did."""

from sqlalchemy import CheckConstraint
from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import big_column, id_column


class OperatorAct(SQLModel, table=True):
    """What somebody of the seller's did by hand, to what, and why; append-only."""

    __tablename__ = "operator_act"
    __table_args__ = (
        CheckConstraint("operator <> ''", name="operator"),
        CheckConstraint("reason <> ''", name="reason"),
    )

    id: int = Field(sa_column=id_column())
    operator: str
    act: str
    subject: str = Field(index=True)
    reason: str | None = None
    at_ms: int = Field(sa_column=big_column())
