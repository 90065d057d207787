"""``post`` books a group of transfers, once for its key.

Debits and credits balance by construction, because a transfer takes from one account
exactly what it gives another, and both are of one asset. A customer never spends more
than may be spent of his lots: they are asked in memory, the write names the revision
that was read, and CHECKs stand behind it.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import insert
from sqlmodel import col, select

from tallystick.kernel.db import (
    WriteSession,
    forbid_commit,
    insert_once,
    new_id,
    now_ms,
)
from tallystick.kernel.errors import TallystickError
from tallystick.ledger.accounts import ensure_accounts
from tallystick.ledger.change import change
from tallystick.ledger.errors import IdempotencyMismatch, InsufficientCredits
from tallystick.ledger.models import LedgerTransaction, TransferRow
from tallystick.ledger.page import Page
from tallystick.ledger.posting import Posted, Posting, Transfer
from tallystick.ledger.reversals import take_back

MakeRoom = Callable[[WriteSession], Awaitable[None]]
"""Sees to it that what a customer may count on is free, such as what lapsed holds have.

His balance may be locked by now. What must be locked before that is written first, in a
transaction of its own (``kernel.db.write_first``).
"""


async def post(
    session: WriteSession, posting: Posting, *, when_short: MakeRoom | None = None
) -> Posted:
    """Book the posting unless its key is known.

    ``when_short`` is called when a customer has not enough; his balance may be locked by
    then. If it returns, he is asked once more, under a lock.
    Raises ``InsufficientCredits`` when a customer has not enough that may be spent,
    ``IdempotencyMismatch`` when the key stands for other input, ``AlreadyReversed`` or
    ``ReversalTooLarge`` when less is left to be reversed, and ``InvalidAmount`` when a
    balance would leave 62 bits. A refusal comes after the key was inserted, so
    ``Database.write`` will not commit once one was raised.
    """
    now = now_ms(session)
    transaction_id = new_id(session)
    if not await _claim_key(session, transaction_id, posting, now):
        return await _replay(session, posting)
    try:
        rows = await _move_all(session, posting, now, when_short)
    except TallystickError:
        forbid_commit(session, "a refused posting must roll back")
        raise
    for position, row in enumerate(rows):
        row |= {"ledger_transaction_id": transaction_id, "position": position}
    await session.exec(insert(TransferRow), params=rows)
    return Posted(transaction_id, replayed=False)


async def _claim_key(
    session: WriteSession, transaction_id: int, posting: Posting, now: int
) -> bool:
    row = transaction_row(transaction_id, posting, now)
    return await insert_once(session, LedgerTransaction, row)


def transaction_row(transaction_id: int, posting: Posting, now: int) -> dict[str, Any]:
    """Return the row of the transaction that ``posting`` makes at ``now`` (ms)."""
    occurred = posting.occurred_at_ms
    return {
        "id": transaction_id,
        "kind": posting.kind,
        "idempotency_key": posting.idempotency_key,
        "input_hash": posting.input_hash,
        "reference": posting.reference,
        "memo": posting.memo,
        "reverses_id": posting.reverses_id,
        "occurred_at_ms": now if occurred is None else occurred,
        "posted_at_ms": now,
    }


async def _replay(session: WriteSession, posting: Posting) -> Posted:
    query = select(LedgerTransaction.id, LedgerTransaction.input_hash)
    key = col(LedgerTransaction.idempotency_key) == posting.idempotency_key
    found, input_hash = (await session.exec(query.where(key))).one()
    if input_hash != posting.input_hash:
        raise IdempotencyMismatch
    return Posted(found, replayed=True)


async def find_posted(
    session: WriteSession, idempotency_key: bytes, *, reverses_id: int
) -> Posted | None:
    """The reversal that the key booked, if it did; for one whose amount is not known.

    Raises ``IdempotencyMismatch`` when the key booked something else.
    """
    query = select(LedgerTransaction.id, LedgerTransaction.reverses_id)
    key = col(LedgerTransaction.idempotency_key) == idempotency_key
    row = (await session.exec(query.where(key))).one_or_none()
    if row is None:
        return None
    if row[1] != reverses_id:
        raise IdempotencyMismatch
    return Posted(row[0], replayed=True)


async def _move_all(
    session: WriteSession, posting: Posting, now: int, when_short: MakeRoom | None
) -> list[dict[str, Any]]:
    transfers: Sequence[Transfer] = posting.transfers
    if posting.reverses_id is not None:
        transfers = await take_back(session, posting, posting.reverses_id)
    sides = [side for one in transfers for side in (one.debit, one.credit)]
    ids = await ensure_accounts(session, sides)
    make_id = partial(new_id, session)

    def work(page: Page) -> list[dict[str, Any]]:
        return [page.move(one, ids, make_id) for one in transfers]

    apply = partial(
        change,
        session,
        [side.customer_id for side in sides if side.customer_id is not None],
        work,
        now=now,
        named=[lot for one in transfers for lot in one.named_lots],
    )
    try:
        return await apply()
    except InsufficientCredits:
        if when_short is None:
            raise
    await when_short(session)
    return await apply(lock=True)
