"""Where the checks of an audit begin: at every row, or at those that are new.

A check names in braces the tables at which it begins, ``{transfer}``, and without them
those in which it only looks up what it found, by their keys. A scope puts a table in the
place of the braces, or a part of it under the same name. A word behind a colon says which
part is meant, where it is another than usual: ``{lot:opened}``. So each check is written
once, for the audit of everything and for that of what is new (``recent``).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

from tallystick.ledger.findings import Checks

_NAMED = re.compile(r"\{(([a-z_]+)(?::[a-z]+)?)\}")


@dataclass(frozen=True, slots=True)
class Scope:
    """What stands for the names in braces, and the values that it asks for.

    ``sources`` of the whole are only what is no table; those of a part are all it has.
    """

    sources: Mapping[str, str]
    values: Mapping[str, object] = field(default_factory=dict)
    is_whole: bool = False

    def within(self, sql: str) -> str:
        """The query over this scope; raises ``KeyError`` for a name that it lacks."""
        return _NAMED.sub(self._source, sql)

    def _source(self, named: re.Match[str]) -> str:
        if self.is_whole and named[1] not in self.sources:
            return named[2]
        return self.sources[named[1]]

    def checks(
        self, checks: Mapping[str, str], *, only_whole: Iterable[str] = ()
    ) -> Checks:
        """The queries over this scope, without those that need to read everything."""
        left_out = frozenset() if self.is_whole else frozenset(only_whole)
        asked = {
            name: self.within(sql)
            for name, sql in checks.items()
            if name not in left_out
        }
        return Checks(asked, self.values)

    def with_parts(
        self, sources: Mapping[str, str], values: Mapping[str, object]
    ) -> Self:
        """This scope with the parts of another room's tables."""
        merged = {**self.sources, **sources}
        return type(self)(merged, {**self.values, **values}, self.is_whole)


# What is known of an account without its lines, and of a line without the one before, a
# part has to find in other ways.
EVERYTHING = Scope(
    {
        "booked": """(
            SELECT ledger_account_id, amount,
                   CASE WHEN version IS NULL THEN 0 ELSE 1 END AS lines
              FROM entry) AS booked""",
        "history": """(
            SELECT ledger_transaction_id, position, ledger_account_id, version, amount,
                   balance_after,
                   COALESCE(LAG(balance_after) OVER lines, 0) AS balance_before,
                   COALESCE(LAG(version) OVER lines, 0) AS version_before
              FROM entry WHERE version IS NOT NULL
            WINDOW lines AS (PARTITION BY ledger_account_id ORDER BY version)
        ) AS history""",
    },
    is_whole=True,
)
"""All rows of all tables."""


def part(table: str, condition: str) -> str:
    """The rows of a table that fulfil a condition, under the table's own name."""
    return f"(SELECT * FROM {table} WHERE {condition}) AS {table}"  # noqa: S608  # our own words


def listed(dialect: str, name: str) -> str:
    """A subquery with the ids of a list that ``as_list`` made a value of."""
    if dialect == "sqlite":
        return f"SELECT value FROM json_each(:{name})"  # noqa: S608  # our own words
    return f"SELECT unnest(CAST(:{name} AS BIGINT[]))"


def as_list(dialect: str, ids: Iterable[int]) -> object:
    """Ids as that database takes a list of them."""
    some = sorted(set(ids))
    return json.dumps(some) if dialect == "sqlite" else some
