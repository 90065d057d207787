"""Whether a packed column has the form in which it was written (``lots.pack``).

The views over such a column read it as JSON, so one row of nonsense makes every query
over them fail. These conditions fail on nothing, and name the row.
"""

from collections.abc import Sequence
from typing import NamedTuple

_HIGHEST = (1 << 63) - 1
_LIMIT = 1 << 62
_NUMBER = "-?(0|[1-9][0-9]{0,18})"


class Whole(NamedTuple):
    """A member that is a whole number between two, the ends included."""

    least: int
    most: int


class Truth(NamedTuple):
    """A member that is true or false."""


AN_ID = Whole(1, _HIGHEST)
AN_AMOUNT = Whole(1, _LIMIT - 1)
A_CHANGE = Whole(1 - _LIMIT, _LIMIT - 1)
"""An amount that entered a lot, or negative, that left it."""
A_COUNT = Whole(0, _HIGHEST)
Member = Whole | Truth


def is_malformed(dialect: str, column: str, members: Sequence[Member]) -> str:
    """A condition in SQL: the column is no array of arrays of just these members.

    NULL is well-formed, and an empty array is not: then nothing is written.
    """
    build = {"sqlite": _on_sqlite, "postgresql": _on_postgresql}[dialect]
    return f"({column} IS NOT NULL AND {build(column, members)})"


def _on_sqlite(column: str, members: Sequence[Member]) -> str:
    wrong = [f"json_array_length(one.value) <> {len(members)}"]
    for place, member in enumerate(members):
        kind = f"COALESCE(json_type(one.value, '$[{place}]'), '')"
        if isinstance(member, Truth):
            wrong.append(f"{kind} NOT IN ('true', 'false')")
            continue
        value = f"json_extract(one.value, '$[{place}]')"
        # A number of more than 64 bits is an integer in JSON and a fraction outside.
        wrong += [f"{kind} <> 'integer'", f"typeof({value}) <> 'integer'"]
        wrong.append(f"{value} NOT BETWEEN {member.least} AND {member.most}")
    return (
        f"CASE WHEN typeof({column}) <> 'text' THEN 1"  # noqa: S608  # our own words
        f" WHEN NOT json_valid({column}) THEN 1"
        f" WHEN json_type({column}) <> 'array' THEN 1"
        f" WHEN json_array_length({column}) = 0 THEN 1"
        f" ELSE EXISTS (SELECT 1 FROM json_each({column}) AS one"
        " WHERE CASE WHEN one.type <> 'array' THEN 1"
        f" ELSE {' OR '.join(wrong)} END) END"
    )


def _on_postgresql(column: str, members: Sequence[Member]) -> str:
    each = ["(true|false)" if isinstance(one, Truth) else _NUMBER for one in members]
    one = rf"\[{','.join(each)}\]"
    wrong = [
        f"CAST(one ->> {place} AS NUMERIC) NOT BETWEEN {member.least} AND {member.most}"
        for place, member in enumerate(members)
        if isinstance(member, Whole)
    ]
    # The order of a CASE is kept: nothing is read as JSON that has not its form.
    return (
        rf"CASE WHEN {column} !~ '^\[{one}(,{one})*\]$' THEN true"  # noqa: S608  # our own words
        f" ELSE EXISTS (SELECT 1 FROM jsonb_array_elements(CAST({column} AS jsonb))"
        f" AS one WHERE {' OR '.join(wrong)}) END"
    )
