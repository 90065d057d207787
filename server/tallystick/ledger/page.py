"""Accounts while they are being changed, and the rows that tell of it.

Pure, like the accounts themselves: ids and times are handed in. Whoever writes the rows
must guard them by the revision that each account had when it was loaded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tallystick.ledger import lots
from tallystick.ledger.lots import Draw
from tallystick.ledger.lotted import LottedAccount
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import FromHold, FromLots, ToLots, ToNewLot, Transfer
from tallystick.ledger.references import reference_to

NewId = Callable[[], int]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expiry:
    """A lot's remainder that was booked off, and the line that says so."""

    account_id: int
    draw: Draw
    balance_after: int
    version: int


@dataclass(slots=True)
class Page:
    """The accounts by customer; ``now`` judges their lots."""

    accounts: dict[int, LottedAccount]
    now: int
    expiries: list[Expiry] = field(default_factory=list)

    def expire_due(self) -> None:
        """Book off what has expired, so that what is left is what may be spent."""
        for account in self.accounts.values():
            for draw in account.due(self.now):
                account.take([draw])
                self.expiries.append(Expiry(account.id, draw, *account.line()))

    def move(self, one: Transfer, ids: dict[str, int], new_id: NewId) -> Row:
        """Make the transfer; its row, but for its transaction and its position.

        Raises ``InsufficientCredits`` or ``InvalidAmount``.
        """
        changes: list[Draw] = []
        debit: tuple[int | None, int | None] = (None, None)
        credit = debit
        if one.debit.customer_id is not None:
            account = self.accounts[one.debit.customer_id]
            drawn = _take(account, one, self.now)
            changes = [Draw(lot_id, -amount) for lot_id, amount in drawn]
            debit = account.line()
        if one.credit.customer_id is not None:
            account = self.accounts[one.credit.customer_id]
            changes += _give(account, one, self.now, new_id)
            credit = account.line()
        packed = lots.pack(changes, one.amount.atomic) if changes else (None, None)
        # Every row has the same columns: they are inserted in one statement.
        return {
            "debit_account_id": ids[one.debit.code],
            "credit_account_id": ids[one.credit.code],
            "amount": one.amount.atomic,
            "debit_balance_after": debit[0],
            "debit_version": debit[1],
            "credit_balance_after": credit[0],
            "credit_version": credit[1],
            "lot_id": packed[0],
            "lots": packed[1],
        }

    def expiry_rows(
        self, breakage_account_id: int, new_id: NewId
    ) -> tuple[list[Row], list[Row]]:
        """A transaction and a transfer for each lot that was booked off."""
        transactions, transfers = [], []
        for one in self.expiries:
            transaction_id = new_id()
            transactions.append(_expiry_transaction(one, transaction_id, self.now))
            transfers.append(
                {
                    "ledger_transaction_id": transaction_id,
                    "position": 0,
                    "debit_account_id": one.account_id,
                    "credit_account_id": breakage_account_id,
                    "amount": one.draw.amount,
                    "debit_balance_after": one.balance_after,
                    "debit_version": one.version,
                    "lot_id": one.draw.lot_id,
                }
            )
        return transactions, transfers


def balance_row(account: LottedAccount, now: int) -> Row:
    """What to write over the revision that was read."""
    burning = account.burning(now)
    return {
        "id": account.id,
        "read_revision": account.revision,
        "balance": account.balance,
        "held": account.held,
        "deferred": account.deferred(now),
        "version": account.version,
        "next_change_ms": account.next_change_ms(now),
        "burning_lot_id": None if burning is None else burning.id,
        "burning_since_ms": None if burning is None else burning.effective_at_ms,
        "burning_left": 0 if burning is None else burning.remaining,
    }


def opened_lots(account: LottedAccount) -> list[Row]:
    """Rows of the lots that are new."""
    return [
        {
            "id": lot_id,
            "ledger_account_id": account.id,
            "amount": amount,
            "remaining": account.lots[lot_id].remaining,
            "is_open": account.lots[lot_id].remaining > 0,
            "priority": account.lots[lot_id].priority,
            "bought": account.lots[lot_id].bought,
            "effective_at_ms": account.lots[lot_id].effective_at_ms,
            "expires_at_ms": account.lots[lot_id].expires_at_ms,
        }
        for lot_id, amount in account.opened.items()
    ]


def changed_lots(account: LottedAccount, now: int) -> list[Row]:
    """What remains in the lots that are not new and were changed.

    The row of a lot that burned and burns on lags behind: the balance row knows.
    """
    burning = account.burning(now)
    known = {account.burned} if burning and burning.id == account.burned else set()
    changed = (account.touched | {account.burned}) - account.opened.keys() - known
    return [
        {"id": lot_id, "remaining": left, "is_open": left > 0}
        for lot_id in sorted(one for one in changed if one is not None)
        for left in [account.lots[lot_id].remaining]
    ]


def _take(account: LottedAccount, one: Transfer, now: int) -> Sequence[Draw]:
    match one.source:
        case FromHold(draws):
            return account.unhold(draws, one.amount.atomic)
        case FromLots(draws):
            account.take(draws)
            return draws
    return account.spend(one.amount.atomic, now)


def _give(
    account: LottedAccount, one: Transfer, now: int, new_id: NewId
) -> Sequence[Draw]:
    if isinstance(one.target, ToLots):
        account.put_back(one.target.draws)
        return one.target.draws
    target = one.target or ToNewLot()
    lot_id = target.lot_id or new_id()
    return [account.open(lot_id, one.amount.atomic, target.terms, now)]


def _expiry_transaction(one: Expiry, transaction_id: int, now: int) -> Row:
    return {
        "id": transaction_id,
        "kind": TransactionKind.EXPIRY,
        "reference": reference_to("lot", one.draw.lot_id),
        "memo": "Expired credits",
        "occurred_at_ms": now,
        "posted_at_ms": now,
    }
