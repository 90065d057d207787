"""Plain charges and holds on PostgreSQL: one statement, its own transaction.

Rows are locked in the order of their ids, so that two processes never wait for each
other; what is decided is decided from the rows as they are under the lock. So is what is
written: computed from the row that the UPDATE itself sees, it would first be computed
from the one before the lock, and a CHECK would refuse that.
"""

from collections.abc import Sequence
from functools import cache

from tallystick.kernel.lane import PostgresqlLane
from tallystick.ledger.plain_rows import Beside, Plain, PlainHold, Row, Table

# A hold has no transfer, and no code of the account that a charge is booked on.
_ITEM = (
    ("item_id", "bigint"),
    ("customer_id", "bigint"),
    ("amount", "bigint"),
    ("revenue_code", "text"),
    ("memo", "text"),
)
_DECIDE = """
    revenue AS MATERIALIZED (
        SELECT code, id FROM ledger_account
         WHERE code IN (SELECT DISTINCT revenue_code FROM item)),
    locked AS (
        SELECT item.*, ledger_account_id AS debit_id, revenue.id AS credit_id,
               balance, held, version, revision, burning_lot_id, burning_left
          FROM item
          JOIN account_balance ON account_balance.customer_id = item.customer_id
          LEFT JOIN revenue ON revenue.code = item.revenue_code
         WHERE (next_change_ms IS NULL OR next_change_ms > $1)
           AND (revenue_code IS NULL OR revenue.id IS NOT NULL)
           AND burning_since_ms <= $1
           {only}
         ORDER BY ledger_account_id FOR UPDATE OF account_balance),
    due AS (
        SELECT locked.*, SUM(amount) OVER earlier AS taken,
               COUNT(revenue_code) OVER earlier AS line,
               SUM(amount) FILTER (WHERE revenue_code IS NOT NULL) OVER earlier AS spent
          FROM locked
        WINDOW earlier AS (PARTITION BY debit_id ORDER BY item_id)),
    written AS (
        SELECT *, balance - CAST(COALESCE(spent, 0) AS BIGINT) AS balance_after
          FROM due WHERE taken <= burning_left),
    charged AS (SELECT * FROM written WHERE revenue_code IS NOT NULL),
    balances AS (
        UPDATE account_balance
           SET balance = total.balance - total.spent,
               held = total.held + total.taken - total.spent,
               burning_left = total.burning_left - total.taken,
               version = total.version + total.lines,
               revision = total.revision + 1
          FROM (SELECT customer_id, balance, held, burning_left, version, revision,
                       COUNT(revenue_code) AS lines,
                       CAST(SUM(amount) AS BIGINT) AS taken,
                       CAST(COALESCE(SUM(amount) FILTER (WHERE revenue_code IS NOT NULL),
                                     0) AS BIGINT) AS spent
                  FROM written
                 GROUP BY customer_id, balance, held, burning_left, version, revision)
               AS total
         WHERE account_balance.customer_id = total.customer_id),
    transactions AS (
        INSERT INTO ledger_transaction (id, kind, reference, memo, occurred_at_ms,
                                        posted_at_ms)
        SELECT item_id, 'charge', '', memo, $1, $1 FROM charged),
    transfers AS (
        INSERT INTO transfer (ledger_transaction_id, position, debit_account_id,
                              credit_account_id, amount, debit_balance_after,
                              debit_version, lot_id)
        SELECT item_id, 0, debit_id, credit_id, amount, balance_after,
               version + line, burning_lot_id FROM charged)"""


async def write_on_postgresql(
    lane: PostgresqlLane, items: Sequence[Plain], beside: Sequence[Beside], now: int
) -> list[int | None]:
    """As ``plain.write_plain``; ``now`` in milliseconds."""
    if not items:
        return []
    left = dict(await lane.fetch(*writing(items, beside, now)))
    return [left.get(one.id) for one in items]


def writing(
    items: Sequence[Plain], beside: Sequence[Beside], now: int
) -> tuple[str, tuple[object, ...]]:
    """The statement that writes them, and its values: ``now``, and an array each."""
    columns = list(zip(*map(_item, items), strict=True))
    for one in beside:
        nothing: Row = (None,) * len(one.table.columns)
        rows = [nothing if row is None else row for row in one.rows]
        columns += zip(*rows, strict=True)
    return _statement(tuple(one.table for one in beside)), (now, *columns)


def _item(one: Plain) -> Row:
    if isinstance(one, PlainHold):
        return (*one, None, None)
    return (
        one.id,
        one.customer_id,
        one.amount,
        one.revenue_code,
        one.memo,
    )


@cache
def _statement(tables: tuple[Table, ...]) -> str:
    """What writes a group, with rows of these tables beside.

    ``now`` is its first value, then comes an array for each column.
    """
    columns = list(_ITEM)
    for number, table in enumerate(tables):
        columns += [(f"beside_{number}_{name}", of) for name, of in table.columns]
    arrays = [f"${at}::{of}[]" for at, (_, of) in enumerate(columns, 2)]
    names = ", ".join(name for name, _ in columns)
    item = f"item AS (SELECT * FROM unnest({', '.join(arrays)}) AS item ({names}))"  # noqa: S608  # our own names
    steps = [item, _DECIDE.format(only=_only_new(tables))]
    steps += [_insertion(number, table) for number, table in enumerate(tables)]
    return f"WITH {', '.join(steps)} SELECT item_id, balance_after FROM written"  # noqa: S608  # our own names


def _only_new(tables: Sequence[Table]) -> str:
    # Not EXISTS, which becomes a join, and made while the table is empty one that reads
    # all of it.
    known = [
        f"(SELECT known.{table.once} FROM {table.name} AS known"  # noqa: S608  # our own names
        f" WHERE known.{table.once} = item.beside_{number}_{table.once}) IS NULL"
        for number, table in enumerate(tables)
        if table.once is not None
    ]
    return " ".join(f"AND {one}" for one in known)


def _insertion(number: int, table: Table) -> str:
    names = [f"beside_{number}_{name}" for name, _ in table.columns]
    lot = [] if table.lot is None else ["burning_lot_id"]
    return (
        f"beside_{number} AS (INSERT INTO {table.name} ({table.names})"  # noqa: S608  # our own names
        f" SELECT {', '.join(names + lot)} FROM written WHERE {names[0]} IS NOT NULL)"
    )
