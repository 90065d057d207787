"""Columns, tables and indexes in the few words that revisions need; frozen with them."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.INTEGER(), "sqlite")


def big(name: str, *, null: bool = False) -> sa.Column[Any]:
    """Never numbered by the database, also when it is the key."""
    return sa.Column(name, BIG, autoincrement=False, nullable=null)


def small(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Integer(), nullable=null)


def flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def text(name: str, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(), nullable=null)


def blob(name: str, length: int, *, null: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary(length=length), nullable=null)


def table(
    name: str,
    *columns: sa.Column[Any],
    key: tuple[str, ...] = ("id",),
    checks: Mapping[str, str] | None = None,
    refers: Mapping[str, str] | None = None,
    unique: Mapping[str, tuple[str, ...]] | None = None,
    create_as: str | None = None,
    with_rowid: bool = True,
) -> None:
    """A table: checks and uniques by the ends of their names, references by column.

    One that shall take the place of an older one is created under another name. SQLite
    keeps one ``with_rowid`` False in the order of its key, and has no second one.
    """
    op.create_table(
        create_as or name,
        *columns,
        *(
            sa.CheckConstraint(rule, name=op.f(f"ck_{name}_{what}"))
            for what, rule in (checks or {}).items()
        ),
        *(
            sa.ForeignKeyConstraint([one], [to], name=op.f(f"fk_{name}_{one}"))
            for one, to in (refers or {}).items()
        ),
        sa.PrimaryKeyConstraint(*key, name=op.f(f"pk_{name}")),
        *(
            sa.UniqueConstraint(*some, name=op.f(f"uq_{name}_{what}"))
            for what, some in (unique or {}).items()
        ),
        sqlite_with_rowid=with_rowid,
    )


def index(
    name: str,
    table: str,
    columns: list[str],
    *,
    where: str | None = None,
    unique: bool = False,
) -> None:
    partial = sa.text(where) if where else None
    op.create_index(
        op.f(name),
        table,
        columns,
        unique=unique,
        sqlite_where=partial,
        postgresql_where=partial,
    )
