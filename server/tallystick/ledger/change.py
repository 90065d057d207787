"""Changing customers' accounts: read, decide, write if nobody else did meanwhile.

What is decided is pure (``lotted``, ``page``). The write names the revision that was read, and
its row count is the verdict; whoever was overtaken reads again under a lock, so nobody
is overtaken twice. All times come from one reading of the session's clock.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

from sqlalchemy import BindParameter, bindparam, insert, text
from sqlmodel import col, select

from tallystick.kernel.db import WriteSession, new_id
from tallystick.ledger import chart
from tallystick.ledger.accounts import ensure_accounts
from tallystick.ledger.lots import Lot
from tallystick.ledger.lotted import LottedAccount
from tallystick.ledger.models import (
    AccountBalance,
    LedgerTransaction,
    LotRow,
    TransferRow,
)
from tallystick.ledger.page import Page, balance_row, changed_lots, opened_lots

T = TypeVar("T")
_LOT = """
           lot.id, CASE WHEN burning_lot_id = lot.id THEN burning_left ELSE remaining END,
           priority, bought, effective_at_ms, expires_at_ms, burning_lot_id"""
_ACCOUNT = """
           customer_id, account_balance.ledger_account_id, balance, held, version,
           revision"""
_OPEN_LOTS = f"""
    SELECT {_ACCOUNT}, {_LOT}
      FROM account_balance
      LEFT JOIN lot ON lot.ledger_account_id = account_balance.ledger_account_id
                   AND lot.is_open
     WHERE customer_id IN :customers"""  # noqa: S608  # two constants
# Lots that get something back may have been spent to nothing.
_SPENT_LOTS = f"""
    UNION ALL
    SELECT {_ACCOUNT}, {_LOT}
      FROM lot
      JOIN account_balance
        ON account_balance.ledger_account_id = lot.ledger_account_id
     WHERE lot.id IN :named AND NOT lot.is_open"""  # noqa: S608  # two constants
_COLUMNS = (
    "id",
    "read_revision",
    "balance",
    "held",
    "deferred",
    "version",
    "next_change_ms",
    "burning_lot_id",
    "burning_since_ms",
    "burning_left",
)
_SAVE_BALANCE = text("""
    UPDATE account_balance
       SET balance = :balance, held = :held, deferred = :deferred, version = :version,
           next_change_ms = :next_change_ms, revision = :read_revision + 1,
           burning_lot_id = :burning_lot_id, burning_since_ms = :burning_since_ms,
           burning_left = :burning_left
     WHERE ledger_account_id = :id AND revision = :read_revision""")
_SAVE_BALANCES = text(f"""
    UPDATE account_balance
       SET balance = new.balance, held = new.held, deferred = new.deferred,
           version = new.version, next_change_ms = new.next_change_ms,
           revision = new.read_revision + 1,
           burning_lot_id = new.burning_lot_id,
           burning_since_ms = new.burning_since_ms, burning_left = new.burning_left
      FROM unnest({", ".join(f"CAST(:{name} AS BIGINT[])" for name in _COLUMNS)})
           AS new({", ".join(_COLUMNS)})
     WHERE ledger_account_id = new.id AND revision = new.read_revision""")  # noqa: S608  # constants
_SAVE_LOT = text(
    "UPDATE lot SET remaining = :remaining, is_open = :is_open WHERE id = :id"
)


async def change(
    session: WriteSession,
    customer_ids: Iterable[int],
    work: Callable[[Page], T],
    *,
    now: int,
    named: Iterable[int] = (),
    lock: bool = False,
) -> T:
    """Apply ``work`` to the customers' accounts and write them, with what expired.

    ``work`` may run twice, on fresh accounts. ``named`` are lots that it touches
    though nothing may be left in them. Raises what ``work`` raises, and then nothing
    was written. ``lock`` waits at once for whoever is changing the accounts just now,
    so that what he gives is seen.
    """
    customers = sorted(set(customer_ids))
    for locked in _passes(session, customers, lock=lock):
        if locked:
            await lock_accounts(session, customers)
        page = Page(await _load(session, customers, sorted(set(named))), now)
        page.expire_due()
        result = work(page)
        page.expire_due()
        if await _save(session, page):
            return result
    raise AssertionError("an account changed under its lock")


def _passes(
    session: WriteSession, customers: list[int], *, lock: bool
) -> tuple[bool, ...]:
    if session.get_bind().dialect.name == "sqlite":
        return (True,)  # BEGIN IMMEDIATE is the lock
    # Several accounts are locked in one order from the start, so that two changes
    # cannot wait for each other. An account that was opened after its lock was asked
    # for is locked by the second pass only.
    return (lock or len(customers) != 1, True)


async def lock_accounts(session: WriteSession, customers: Iterable[int]) -> None:
    """Wait for whoever is changing these customers' accounts, and keep others out.

    For who reads what the accounts' transactions write besides, such as a key or what
    was taken back before, and decides by it. Accounts that do not exist are not locked.
    """
    customers = set(customers)
    if session.get_bind().dialect.name == "sqlite" or not customers:
        return
    account = col(AccountBalance.ledger_account_id)
    query = (
        select(account)
        .where(col(AccountBalance.customer_id).in_(customers))
        .order_by(account)
        .with_for_update()
    )
    (await session.exec(query)).all()


async def _load(
    session: WriteSession, customers: list[int], named: list[int]
) -> dict[int, LottedAccount]:
    if not customers:
        return {}
    values: dict[str, list[int]] = {"customers": customers}
    sql = _OPEN_LOTS
    if named:
        sql += _SPENT_LOTS
        values["named"] = named
    lists: list[BindParameter[int]] = [
        bindparam(name, expanding=True) for name in values
    ]
    connection = await session.connection()
    rows = await connection.execute(text(sql).bindparams(*lists), values)
    found: dict[int, LottedAccount] = {}
    for customer, account_id, balance, held, version, revision, *lot, burning in rows:
        if customer not in found:
            amounts = balance, held, version, revision
            found[customer] = LottedAccount.of(account_id, amounts, ())
        if lot[0] is not None:
            found[customer].lots[lot[0]] = Lot(*lot)
        if lot[0] == burning:
            found[customer].burned = burning
    return found


async def _save(session: WriteSession, page: Page) -> bool:
    accounts = list(page.accounts.values())
    if not await _save_balances(session, accounts, page.now):
        return False
    if opened := [row for one in accounts for row in opened_lots(one)]:
        await session.exec(insert(LotRow), params=opened)
    if changed := [row for one in accounts for row in changed_lots(one, page.now)]:
        await (await session.connection()).execute(_SAVE_LOT, changed)
    if page.expiries:
        house = await ensure_accounts(session, [chart.breakage()])
        transactions, transfers = page.expiry_rows(
            house[chart.breakage().code], partial(new_id, session)
        )
        await session.exec(insert(LedgerTransaction), params=transactions)
        await session.exec(insert(TransferRow), params=transfers)
    return True


async def _save_balances(
    session: WriteSession, accounts: Sequence[LottedAccount], now: int
) -> bool:
    """Write them all over the revisions that were read; the row count is the verdict."""
    rows = [balance_row(one, now) for one in accounts]
    if not rows:
        return True
    connection = await session.connection()
    if session.get_bind().dialect.name == "sqlite":
        result = await connection.execute(_SAVE_BALANCE, rows)
    else:
        # Many rows in one statement, because only that tells how many there were.
        columns = {name: [row[name] for row in rows] for name in _COLUMNS}
        result = await connection.execute(_SAVE_BALANCES, columns)
    return result.rowcount == len(rows)
