"""What a plain charge is made of, before it is booked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tallystick.ledger import chart

Row = tuple[object, ...]


class PlainCharge(NamedTuple):
    """A charge of ``amount`` micro-credits, booked as revenue of ``feature``.

    ``transaction_id`` and ``transfer_id`` are fresh ids. It has no key of its own: who
    wants it once says so in a row beside it.
    """

    transaction_id: int
    transfer_id: int
    customer_id: int
    feature: str
    amount: int
    reference: str
    memo: str

    @property
    def revenue_code(self) -> str:
        return chart.feature_revenue(self.feature).code


@dataclass(frozen=True, slots=True)
class Table:
    """Where rows go that are written beside charges.

    ``columns`` are names with PostgreSQL's types; the first is never null. ``once``
    names the column that may not be there yet: a charge whose row it has is not plain.
    """

    name: str
    columns: tuple[tuple[str, str], ...]
    once: str | None = None

    @property
    def names(self) -> str:
        return ", ".join(f'"{name}"' for name, _ in self.columns)


@dataclass(frozen=True, slots=True)
class Beside:
    """A row for each charge, in their order; ``None`` where it has none."""

    table: Table
    rows: Sequence[Row | None]

    def once_values(self) -> dict[int, object]:
        """What may stand there but once, by the index of the charge."""
        if self.table.once is None:
            return {}
        at = [name for name, _ in self.table.columns].index(self.table.once)
        return {
            index: row[at] for index, row in enumerate(self.rows) if row is not None
        }
