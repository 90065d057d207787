"""Column types and names shared by every table.

SQLModel tables do not validate: ``Field(gt=0)`` lets -5 through. So what must hold
stands in CHECK and UNIQUE constraints, whose names come from one convention.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, LargeBinary
from sqlalchemy.dialects.sqlite import INTEGER
from sqlmodel import SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLite keeps a row under its key only when the key is exactly INTEGER PRIMARY KEY.
BigInt = BigInteger().with_variant(INTEGER(), "sqlite")


def id_column() -> Column[int]:
    """A primary key that the application makes (``kernel.ids``)."""
    return Column(BigInt, primary_key=True, autoincrement=False)


def big_column(*args: Any, nullable: bool = False, **kwargs: Any) -> Column[int]:
    """A 64-bit integer: an amount, an id of another row, milliseconds."""
    return Column(BigInt, *args, nullable=nullable, **kwargs)


def reference_column(target: str, *, nullable: bool = False, **kw: Any) -> Column[int]:
    """The id of a row in another table, checked by the database."""
    return Column(BigInt, ForeignKey(target), nullable=nullable, **kw)


def bytes_column(
    *args: Any, size: int, nullable: bool = False, **kw: Any
) -> Column[bytes]:
    """Binary of a fixed small size: addresses, nonces, hashes, digests."""
    return Column(LargeBinary(size), *args, nullable=nullable, **kw)


def one_of(column: str, values: Iterable[str]) -> CheckConstraint:
    """A CHECK that the column holds one of the values, named after the column."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=column)
