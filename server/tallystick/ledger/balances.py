"""What accounts hold, now and at any past time."""

from dataclasses import dataclass

from sqlalchemy import case, func
from sqlmodel import col, select

from tallystick.kernel.db import ReadSession, WriteSession, now_ms, query
from tallystick.kernel.money import NO_CREDITS, MicroCredits
from tallystick.ledger.chart import AccountName
from tallystick.ledger.models import AccountBalance, LedgerAccount, TransferRow


@dataclass(frozen=True, slots=True)
class Balance:
    """A customer's credits, in micro-credits; ``available`` is what may be spent now.

    ``posted`` is what the statement ends with. ``deferred`` counts later, ``expired``
    counts no more, though its breakage is not booked yet.
    """

    posted: MicroCredits
    held: MicroCredits
    deferred: MicroCredits = NO_CREDITS
    expired: MicroCredits = NO_CREDITS

    @property
    def available(self) -> MicroCredits:
        return MicroCredits(self.posted - self.held - self.deferred - self.expired)


async def customer_balance(
    session: ReadSession | WriteSession, customer_id: int
) -> Balance:
    """The customer's credits by the session's clock; zero for one who never had any."""
    found = await query(session, _BALANCE, customer_id=customer_id)
    if not found:
        return Balance(NO_CREDITS, NO_CREDITS)
    (row,) = found
    now, deferred, expired = now_ms(session), row["deferred"], 0
    if row["next_change_ms"] is not None and row["next_change_ms"] <= now:
        account_id = row["ledger_account_id"]
        deferred, expired = await _by_the_lots(session, account_id, now)
    return Balance(*map(MicroCredits, (row["balance"], row["held"], deferred, expired)))


_BALANCE = """
    SELECT ledger_account_id, balance, held, deferred, next_change_ms
      FROM account_balance
     WHERE customer_id = :customer_id"""
_BY_THE_LOTS = """
    SELECT COALESCE(SUM(CASE WHEN effective_at_ms > :now
                             THEN remaining ELSE 0 END), 0) AS deferred,
           COALESCE(SUM(CASE WHEN expires_at_ms <= :now
                             THEN remaining ELSE 0 END), 0) AS expired
      FROM lot_left WHERE ledger_account_id = :account_id AND is_open"""


async def _by_the_lots(
    session: ReadSession | WriteSession, account_id: int, now: int
) -> tuple[int, int]:
    (row,) = await query(session, _BY_THE_LOTS, account_id=account_id, now=now)
    return int(row["deferred"]), int(row["expired"])


async def balance_at(
    session: ReadSession | WriteSession, customer_id: int, at_ms: int
) -> MicroCredits:
    """What the statement said at a past time: the last line booked until then.

    Lines are numbered without gaps, so the line is found by halving, with two reads of
    an index for each step. Where a clock stepped back, it is one of the lines whose
    booking that time lies between.
    """
    account = select(AccountBalance.ledger_account_id, AccountBalance.version).where(
        col(AccountBalance.customer_id) == customer_id
    )
    found = (await session.exec(account)).one_or_none()
    if found is None:
        return NO_CREDITS
    account_id, above = found[0], found[1] + 1
    below, balance = 0, 0
    while above - below > 1:
        middle = (above + below) // 2
        values = {"account_id": account_id, "version": middle}
        (line,) = await query(session, _LINE, **values)
        if line["posted_at_ms"] <= at_ms:
            below, balance = middle, line["balance_after"]
        else:
            above = middle
    return MicroCredits(balance)


_LINE = """
    SELECT line.balance_after, ledger_transaction.posted_at_ms
      FROM (
        SELECT ledger_transaction_id, debit_balance_after AS balance_after
          FROM transfer
         WHERE debit_account_id = :account_id AND debit_version = :version
        UNION ALL
        SELECT ledger_transaction_id, credit_balance_after FROM transfer
         WHERE credit_account_id = :account_id AND credit_version = :version
      ) AS line
      JOIN ledger_transaction ON ledger_transaction.id = line.ledger_transaction_id"""


async def net_debits(session: ReadSession | WriteSession, name: AccountName) -> int:
    """Debits minus credits of an account, in atomic units, summed from its transfers.

    This is an asset's balance; a liability's or a revenue's is its negative. It reads
    the whole journal (docs/decisions/0004), so no request waits for it.
    """
    account = select(LedgerAccount.id).where(col(LedgerAccount.code) == name.code)
    account_id = (await session.exec(account)).one_or_none()
    if account_id is None:
        return 0
    debit = col(TransferRow.debit_account_id) == account_id
    credit = col(TransferRow.credit_account_id) == account_id
    amount = col(TransferRow.amount)
    total = func.coalesce(func.sum(case((debit, amount), else_=-amount)), 0)
    # PostgreSQL sums 64-bit integers to a Decimal.
    return int((await session.exec(select(total).where(debit | credit))).one())
