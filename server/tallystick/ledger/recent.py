"""The scope of an audit of what is new: some transactions, and the accounts they touch.

Every part is found by ids that an index has, so it costs what is new and not what is
there. A view is a union, into which SQLite carries no list of ids, so the parts of views
are spelled here over parts of their tables (``tests/ledger/test_scope.py`` compares them).

What a part leaves to the audit of everything: lines that were changed long ago, and
closed lots that no new line names.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from tallystick.kernel.db import ReadSession, WriteSession, query
from tallystick.ledger.scope import Scope, as_list, listed, part

_DRAWS = {
    "sqlite": (
        "json_each(transfer.lots) AS draw",
        "json_extract(draw.value, '$[0]')",
        "json_extract(draw.value, '$[1]')",
    ),
    "postgresql": (
        "jsonb_array_elements(CAST(transfer.lots AS jsonb)) AS draw",
        "CAST(draw ->> 0 AS BIGINT)",
        "CAST(draw ->> 1 AS BIGINT)",
    ),
}
_OF = "ledger_transaction_id IN ({})"
# The newest line of an account says what all of its lines add up to, if each continues
# the one before; and so the one before says it of the lines until then.
_BOOKED = """(
    SELECT newest.ledger_account_id, newest.version AS lines,
           COALESCE(debit.debit_balance_after, credit.credit_balance_after) AS amount
      FROM (SELECT ledger_account_id,
                   CASE WHEN debited > credited THEN debited ELSE credited END AS version
              FROM (SELECT ledger_account_id,
                           COALESCE((SELECT MAX(debit_version) FROM transfer
                                      WHERE debit_account_id = ledger_account_id
                                        AND debit_version IS NOT NULL), 0) AS debited,
                           COALESCE((SELECT MAX(credit_version) FROM transfer
                                      WHERE credit_account_id = ledger_account_id
                                        AND credit_version IS NOT NULL), 0) AS credited
                      FROM account_balance
                     WHERE ledger_account_id IN ({})) AS sides) AS newest
      LEFT JOIN transfer AS debit
        ON debit.debit_account_id = newest.ledger_account_id
       AND debit.debit_version = newest.version
      LEFT JOIN transfer AS credit
        ON credit.credit_account_id = newest.ledger_account_id
       AND credit.credit_version = newest.version) AS booked"""
_HISTORY = """(
    SELECT entry.ledger_transaction_id, entry.position, entry.ledger_account_id,
           entry.version, entry.amount, entry.balance_after,
           COALESCE(debit.debit_balance_after, credit.credit_balance_after, 0)
             AS balance_before,
           COALESCE(debit.debit_version, credit.credit_version, 0) AS version_before
      FROM {}
      LEFT JOIN transfer AS debit
        ON debit.debit_account_id = entry.ledger_account_id
       AND debit.debit_version = entry.version - 1
      LEFT JOIN transfer AS credit
        ON credit.credit_account_id = entry.ledger_account_id
       AND credit.credit_version = entry.version - 1
     WHERE entry.version IS NOT NULL) AS history"""
_LEFT = """(
    SELECT lot.id, lot.ledger_account_id, amount, is_open, effective_at_ms,
           expires_at_ms,
           CASE WHEN burning_lot_id = lot.id THEN burning_left ELSE remaining END
             AS remaining
      FROM lot
      LEFT JOIN account_balance
        ON account_balance.ledger_account_id = lot.ledger_account_id
     WHERE is_open AND lot.ledger_account_id IN ({})) AS lot_left"""


@dataclass(frozen=True, slots=True)
class New:
    """What to audit: transactions, holds and accounts by their ids.

    ``after`` and ``upto`` are the ends of the ids that the rows beside have: what was
    made with a transaction has an id of the same time.
    """

    transactions: tuple[int, ...] = ()
    holds: tuple[int, ...] = ()
    accounts: tuple[int, ...] = ()
    after: int = 0
    upto: int = 0


async def touched_by(session: ReadSession | WriteSession, new: New) -> set[int]:
    """The accounts, the house's too, that its transactions name or its time brought."""
    dialect = session.get_bind().dialect.name
    recent = listed(dialect, "recent")
    found = await query(
        session,
        "SELECT debit_account_id, credit_account_id FROM transfer"  # noqa: S608  # our own words
        f" WHERE ledger_transaction_id IN ({recent})",
        recent=as_list(dialect, new.transactions),
    )
    made = await query(
        session,
        "SELECT id FROM ledger_account WHERE id > :after AND id <= :upto",
        after=new.after,
        upto=new.upto,
    )
    sides = {one for row in found for one in row.values()}
    return {*new.accounts, *sides, *(row["id"] for row in made)}


def ledger_scope(dialect: str, new: New, accounts: Iterable[int]) -> Scope:
    """The parts of the ledger's tables that belong to it and to these accounts."""
    recent, touched = listed(dialect, "recent"), listed(dialect, "accounts")
    originals = (
        f"SELECT reverses_id FROM ledger_transaction WHERE id IN ({recent})"  # noqa: S608  # our own words
        " AND reverses_id IS NOT NULL"
    )
    reversals = f"reverses_id IN ({originals})"
    of_reversals = f"SELECT id FROM ledger_transaction WHERE {reversals}"  # noqa: S608  # our own words
    sources = {
        "transfer": part("transfer", _OF.format(recent)),
        "ledger_transaction": part("ledger_transaction", f"id IN ({recent})"),
        "ledger_transaction:reversal": part("ledger_transaction", reversals),
        "entry": _entries(recent),
        "history": _HISTORY.format(_entries(recent)),
        "booked": _BOOKED.format(touched),
        "ledger_account": part("ledger_account", f"id IN ({touched})"),
        "account_balance": part("account_balance", f"ledger_account_id IN ({touched})"),
        "lot_left": _LEFT.format(touched),
        "lot": part("lot", f"id IN ({_lots(dialect, recent, touched)})"),
        "lot:opened": part("lot", f"id IN ({_opened(dialect, recent)})"),
        "lot_entry": lot_entries(dialect, recent),
        "lot_entry:reversal": lot_entries(dialect, of_reversals),
        "lot_entry:original": lot_entries(dialect, originals),
        "reversed": part("reversed", _OF.format(originals)),
    }
    values = {
        "recent": as_list(dialect, new.transactions),
        "accounts": as_list(dialect, accounts),
    }
    return Scope(sources, values)


def _entries(transactions: str) -> str:
    of = _OF.format(transactions)
    return f"""(
    SELECT position, ledger_transaction_id, debit_account_id AS ledger_account_id,
           -amount AS amount, debit_balance_after AS balance_after,
           debit_version AS version
      FROM transfer WHERE {of}
    UNION ALL
    SELECT position, ledger_transaction_id, credit_account_id, amount,
           credit_balance_after, credit_version
      FROM transfer WHERE {of}) AS entry"""  # noqa: S608  # our own words


def lot_entries(dialect: str, transactions: str) -> str:
    """The view ``lot_entry`` of the transactions that a subquery tells."""
    of = _OF.format(transactions)
    source, lot_id, amount = _DRAWS[dialect]
    return f"""(
    SELECT position, ledger_transaction_id, lot_id,
           CASE WHEN debit_version IS NULL THEN amount ELSE -amount END AS amount
      FROM transfer WHERE lot_id IS NOT NULL AND {of}
    UNION ALL
    SELECT position, ledger_transaction_id, {lot_id}, {amount}
      FROM transfer, {source}
     WHERE transfer.lots IS NOT NULL AND {of}) AS lot_entry"""  # noqa: S608  # our own words


def _lots(dialect: str, recent: str, touched: str) -> str:
    """Those that a new line names, and what an account may be spent from."""
    return f"""
    SELECT lot_id FROM {lot_entries(dialect, recent)}
    UNION SELECT id FROM lot WHERE is_open AND ledger_account_id IN ({touched})
    UNION SELECT burning_lot_id FROM account_balance
     WHERE ledger_account_id IN ({touched}) AND burning_lot_id IS NOT NULL"""  # noqa: S608  # our own words


def _opened(dialect: str, recent: str) -> str:
    return f"""
    SELECT lot_id FROM {lot_entries(dialect, recent)}
      JOIN ledger_transaction
        ON ledger_transaction.id = lot_entry.ledger_transaction_id
     WHERE amount > 0 AND kind <> 'reversal'"""  # noqa: S608  # our own words
