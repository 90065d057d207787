"""What is plain: a charge, or a hold, before it is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tallystick.ledger import chart

Row = tuple[object, ...]


class PlainCharge(NamedTuple):
    """A charge of ``amount`` micro-credits, booked as revenue of ``feature``.

    ``id`` is a fresh one, of its transaction. It has no key of its own: who wants it
    once says so in a row beside it.
    """

    id: int
    customer_id: int
    amount: int
    feature: str
    memo: str

    @property
    def revenue_code(self) -> str:
        return chart.feature_revenue(self.feature).code


class PlainHold(NamedTuple):
    """Credits to set aside, in micro-credits; what for, a row beside it says."""

    id: int
    customer_id: int
    amount: int


Plain = PlainCharge | PlainHold


@dataclass(frozen=True, slots=True)
class Table:
    """Where rows go that are written beside charges and holds.

    ``columns`` are names with PostgreSQL's types; the first is never null. ``once``
    names the column that may not be there yet: what has its row already is not plain.
    ``lot`` names a column for the lot that was drawn from, which the ledger fills in.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    once: str | None = None
    lot: str | None = None

    @property
    def names(self) -> str:
        names = [name for name, _ in self.columns]
        return ", ".join([f'"{one}"' for one in (*names, *self._filled_in)])

    @property
    def width(self) -> int:
        return len(self.columns) + len(self._filled_in)

    @property
    def _filled_in(self) -> tuple[str, ...]:
        return () if self.lot is None else (self.lot,)


@dataclass(frozen=True, slots=True)
class Beside:
    """A row for each of what is written, in its order; ``None`` where it has none."""

    table: Table
    rows: Sequence[Row | None]

    def once_values(self) -> dict[int, object]:
        """What may stand there but once, by the index of what it stands beside."""
        if self.table.once is None:
            return {}
        at = [name for name, _ in self.table.columns].index(self.table.once)
        return {
            index: row[at] for index, row in enumerate(self.rows) if row is not None
        }
