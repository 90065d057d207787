"""The only writer of transfers: ``post`` books a group of them, once.

Debits and credits balance by construction, because a transfer takes from one account
exactly what it gives another, and both are of one asset. A customer's balance can
never go below what is held: the guard stands in the UPDATE whose row count is the
verdict, and again as a CHECK.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import insert, update
from sqlmodel import col, select

from tallystick.kernel.db import (
    WriteSession,
    forbid_commit,
    insert_once,
    new_id,
    now_ms,
)
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.money import AMOUNT_LIMIT, Amount, InvalidAmount
from tallystick.kernel.seal import digest16
from tallystick.ledger.accounts import ensure_accounts
from tallystick.ledger.chart import AccountName
from tallystick.ledger.errors import (
    AlreadyReversed,
    IdempotencyMismatch,
    InsufficientCredits,
)
from tallystick.ledger.models import (
    AccountBalance,
    LedgerTransaction,
    TransactionKind,
    TransferRow,
)

MakeRoom = Callable[[WriteSession], Awaitable[None]]
"""Frees what a customer may count on, such as the credits of his lapsed holds."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """An amount that leaves ``debit`` and enters ``credit``, both of its asset."""

    debit: AccountName
    credit: AccountName
    amount: Amount

    def __post_init__(self) -> None:
        if not self.debit.asset == self.credit.asset == self.amount.asset:
            raise ValueError(f"one transfer moves one asset: {self}")
        if self.debit.code == self.credit.code:
            raise ValueError(f"a transfer needs two accounts: {self}")


@dataclass(frozen=True, slots=True)
class Posting:
    """What to book. ``idempotency_key`` is 16 bytes and never expires.

    ``occurred_at_ms`` is when it happened in the world, now when left out; ``memo`` is
    for the customer's eyes. A reversal names in ``reverses_id`` the transaction that
    it takes back, wholly or in part.
    """

    kind: TransactionKind
    idempotency_key: bytes
    transfers: Sequence[Transfer]
    reference: str
    memo: str = ""
    reverses_id: int | None = None
    occurred_at_ms: int | None = None

    def __post_init__(self) -> None:
        if len(self.idempotency_key) != 16:
            raise ValueError("an idempotency key is 16 bytes (kernel.seal.digest16)")
        if not self.transfers:
            raise ValueError(f"nothing to book: {self}")
        if (self.kind is TransactionKind.REVERSAL) != (self.reverses_id is not None):
            raise ValueError(f"a reversal, and only that, names a transaction: {self}")

    @property
    def input_hash(self) -> bytes:
        """What must be the same for the same key to mean the same request.

        The time is no part of it: a retry happens later, and a reorganised chain shows
        the same payment in another block. Nor is the memo, which is only shown.
        """
        lines = [
            f"{one.debit.code}>{one.credit.code}:{one.amount.atomic}".encode()
            for one in self.transfers
        ]
        reversed_id = b"" if self.reverses_id is None else b"%d" % self.reverses_id
        head = (self.kind.encode(), self.reference.encode(), reversed_id)
        return digest16(*head, *lines)


@dataclass(frozen=True, slots=True)
class Posted:
    """A booked transaction; ``replayed`` when an earlier call booked it."""

    ledger_transaction_id: int
    replayed: bool


async def post(
    session: WriteSession, posting: Posting, *, when_short: MakeRoom | None = None
) -> Posted:
    """Book the posting unless its key is known.

    ``when_short`` is called when a balance does not suffice, before any balance is
    locked if only one customer takes part; then the balance is asked once more.
    Raises ``InsufficientCredits`` when a customer's balance minus holds would go below
    zero, ``IdempotencyMismatch`` when the key stands for other input,
    ``AlreadyReversed`` when another key reversed the same transaction, and
    ``InvalidAmount`` when a balance would leave 62 bits. A refusal comes after the key
    was inserted, so ``Database.write`` will not commit once one was raised.
    """
    transaction_id = new_id(session)
    if not await _claim_key(session, transaction_id, posting):
        return await _replay(session, posting)
    names = [side for one in posting.transfers for side in (one.debit, one.credit)]
    ids = await ensure_accounts(session, names)
    balances = await _apply(session, posting.transfers, ids, when_short)
    rows = [
        _row(new_id(session), transaction_id, position, one, ids, balances)
        for position, one in enumerate(posting.transfers)
    ]
    await session.exec(insert(TransferRow), params=rows)
    return Posted(transaction_id, replayed=False)


async def _claim_key(
    session: WriteSession, transaction_id: int, posting: Posting
) -> bool:
    now = now_ms(session)
    row: dict[str, object] = {
        "id": transaction_id,
        "kind": posting.kind,
        "idempotency_key": posting.idempotency_key,
        "input_hash": posting.input_hash,
        "reference": posting.reference,
        "memo": posting.memo,
        "reverses_id": posting.reverses_id,
        "occurred_at_ms": now
        if posting.occurred_at_ms is None
        else posting.occurred_at_ms,
        "posted_at_ms": now,
    }
    return await insert_once(session, LedgerTransaction, row)


async def _replay(session: WriteSession, posting: Posting) -> Posted:
    query = select(LedgerTransaction.id, LedgerTransaction.input_hash)
    key = col(LedgerTransaction.idempotency_key) == posting.idempotency_key
    row = (await session.exec(query.where(key))).one_or_none()
    if row is None and posting.reverses_id is not None:
        raise AlreadyReversed(posting.reverses_id)
    assert row is not None, "no UNIQUE row explains the conflict"
    if bytes(row[1]) != posting.input_hash:
        raise IdempotencyMismatch
    return Posted(row[0], replayed=True)


class _Running:
    """A customer's balance as it passes through the transfers of one posting."""

    def __init__(self, balance: int, version: int) -> None:
        self.balance = balance
        self.version = version

    def step(self, change: int) -> tuple[int, int]:
        self.balance += change
        self.version += 1
        return self.balance, self.version


async def _apply(
    session: WriteSession,
    transfers: Sequence[Transfer],
    ids: dict[str, int],
    when_short: MakeRoom | None,
) -> dict[int, _Running]:
    changes: dict[int, list[int]] = {}
    for one in transfers:
        for side, change in ((one.debit, -1), (one.credit, 1)):
            if side.customer_id is not None:
                signed = change * one.amount.atomic
                changes.setdefault(ids[side.code], []).append(signed)
    # Rows are locked in one order everywhere, so two postings cannot deadlock.
    return {
        account_id: await _change(session, account_id, changes[account_id], when_short)
        for account_id in sorted(changes)
    }


async def _change(
    session: WriteSession,
    account_id: int,
    changes: list[int],
    when_short: MakeRoom | None,
) -> _Running:
    net = sum(changes)
    account = col(AccountBalance.ledger_account_id) == account_id
    balance, held = col(AccountBalance.balance), col(AccountBalance.held)
    statement = (
        update(AccountBalance)
        .where(account, balance + net - held >= 0, balance + net < AMOUNT_LIMIT)
        .values(balance=balance + net, version=AccountBalance.version + len(changes))
        .returning(balance, col(AccountBalance.version))
        # No object of this row may be made up in memory: the row count is the verdict.
        .execution_options(synchronize_session=False)
    )
    row = (await session.exec(statement)).one_or_none()
    if row is None and net < 0 and when_short is not None:
        await when_short(session)
        return await _change(session, account_id, changes, None)
    if row is None:
        forbid_commit(session, "a refused posting must roll back")
        raise _refusal(net)
    return _Running(row[0] - net, row[1] - len(changes))


def _refusal(net: int) -> TallystickError:
    if net < 0:
        return InsufficientCredits(-net)
    return InvalidAmount("the balance would exceed what the ledger can count")


def _step(running: _Running | None, change: int) -> tuple[int | None, int | None]:
    return running.step(change) if running else (None, None)


def _row(
    row_id: int,
    transaction_id: int,
    position: int,
    one: Transfer,
    ids: dict[str, int],
    balances: dict[int, _Running],
) -> dict[str, int | None]:
    debit_id, credit_id = ids[one.debit.code], ids[one.credit.code]
    debit = _step(balances.get(debit_id), -one.amount.atomic)
    credit = _step(balances.get(credit_id), one.amount.atomic)
    return {
        "id": row_id,
        "ledger_transaction_id": transaction_id,
        "position": position,
        "debit_account_id": debit_id,
        "credit_account_id": credit_id,
        "amount": one.amount.atomic,
        "debit_balance_after": debit[0],
        "debit_version": debit[1],
        "credit_balance_after": credit[0],
        "credit_version": credit[1],
    }
