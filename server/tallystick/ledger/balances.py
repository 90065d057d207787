"""What accounts hold."""

from dataclasses import dataclass

from sqlalchemy import case, func
from sqlmodel import col, select

from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.chart import AccountName
from tallystick.ledger.models import AccountBalance, LedgerAccount, TransferRow


@dataclass(frozen=True, slots=True)
class Balance:
    """A customer's credits, in micro-credits; ``available`` is what may be spent."""

    posted: MicroCredits
    held: MicroCredits

    @property
    def available(self) -> MicroCredits:
        return MicroCredits(self.posted - self.held)


async def customer_balance(
    session: ReadSession | WriteSession, customer_id: int
) -> Balance:
    """The customer's credits; zero for one who never had any."""
    query = (
        select(AccountBalance.balance, AccountBalance.held)
        .join(
            LedgerAccount,
            col(LedgerAccount.id) == col(AccountBalance.ledger_account_id),
        )
        .where(col(LedgerAccount.customer_id) == customer_id)
    )
    row = (await session.exec(query)).one_or_none()
    posted, held = row or (0, 0)
    return Balance(MicroCredits(posted), MicroCredits(held))


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
