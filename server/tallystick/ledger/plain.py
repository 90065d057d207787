"""Many plain charges in one transaction, each with its own outcome.

Plain is what almost every charge is: a key that nobody has used, and a customer who has
enough. For those the books are read once and written once, however many they are. What
is not plain is left alone, wholly: ``journal.post`` books it, or says why not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import insert
from sqlmodel import col, select

from tallystick.kernel.db import WriteSession, new_id, now_ms
from tallystick.ledger.accounts import ensure_accounts
from tallystick.ledger.change import change
from tallystick.ledger.journal import transaction_row
from tallystick.ledger.models import LedgerTransaction, TransferRow
from tallystick.ledger.page import NewId, Page, Row
from tallystick.ledger.posting import Posting, Transfer


@dataclass(frozen=True, slots=True)
class Booked:
    """A charge that was booked; ``balance_after`` is the customer's, in micro-credits."""

    ledger_transaction_id: int
    balance_after: int


async def post_plain(
    session: WriteSession, postings: Sequence[Posting]
) -> list[Booked | None]:
    """Book what is plain; ``None`` for what is not, of which nothing is written.

    Each posting is one transfer from a customer to the house. Customers are served in
    the order of the postings. Raises ``sqlalchemy.exc.IntegrityError`` when somebody
    else used one of the keys at the same moment; then the transaction must roll back.
    """
    now = now_ms(session)
    fresh = await _fresh(session, postings)
    house = await ensure_accounts(session, [one.credit for one in fresh.values()])
    work = partial(_move_plain, fresh, house, partial(new_id, session))
    customers = {_payer(one) for one in fresh.values()}
    rows = await change(session, customers, work, now=now)
    transactions = [
        transaction_row(row["ledger_transaction_id"], postings[index], now)
        for index, row in rows.items()
    ]
    if rows:
        await session.exec(insert(LedgerTransaction), params=transactions)
        await session.exec(insert(TransferRow), params=list(rows.values()))
    return [_booked(rows.get(index)) for index in range(len(postings))]


async def _fresh(
    session: WriteSession, postings: Sequence[Posting]
) -> dict[int, Transfer]:
    """The transfers whose keys nobody has used, the first of each, by their index."""
    first: dict[bytes, int] = {}
    for index, one in enumerate(postings):
        first.setdefault(one.idempotency_key, index)
    key = col(LedgerTransaction.idempotency_key)
    used = set((await session.exec(select(key).where(key.in_(first)))).all())
    found: dict[int, Transfer] = {}
    for key_, index in first.items():
        if key_ not in used:
            (found[index],) = postings[index].transfers
    return found


def _payer(one: Transfer) -> int:
    customer = one.debit.customer_id
    if customer is None or one.credit.customer_id is not None or one.source:
        raise ValueError(f"no charge of a customer: {one}")
    return customer


def _move_plain(
    transfers: dict[int, Transfer], house: dict[str, int], make_id: NewId, page: Page
) -> dict[int, Row]:
    ids = dict(house)
    rows: dict[int, Row] = {}
    changed = {one.account_id for one in page.expiries}
    for index, one in transfers.items():
        account = page.accounts.get(_payer(one))
        if account is None or account.available(page.now) < one.amount.atomic:
            continue
        ids[one.debit.code] = account.id
        transaction_id = make_id()
        rows[index] = page.move(one, ids, make_id)
        rows[index] |= {"ledger_transaction_id": transaction_id, "position": 0}
        changed.add(account.id)
    page.keep(changed)
    return rows


def _booked(row: Row | None) -> Booked | None:
    if row is None:
        return None
    return Booked(row["ledger_transaction_id"], row["debit_balance_after"])
