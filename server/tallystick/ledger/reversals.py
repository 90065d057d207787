"""What may be taken back of a transaction, and to which lots it returns.

Several reversals may share one original; together they never exceed it. The guard is a
conditional UPDATE of the original's own row in ``reversed``, which also makes them
queue, so what earlier ones returned is known.
"""

from dataclasses import replace

from sqlalchemy import ColumnElement, text, update
from sqlmodel import col, select

from tallystick.kernel.db import WriteSession
from tallystick.kernel.errors import TallystickError
from tallystick.ledger.chart import AccountName
from tallystick.ledger.errors import AlreadyReversed, ReversalTooLarge
from tallystick.ledger.lots import Draw, last_drawn_first, unpack
from tallystick.ledger.models import (
    LedgerAccount,
    LedgerTransaction,
    Reversed,
    TransferRow,
)
from tallystick.ledger.posting import Posting, ToLots, Transfer

_BEGIN = text("""
    INSERT INTO reversed (ledger_transaction_id, asset, amount, reversed)
    SELECT transfer.ledger_transaction_id, asset, CAST(SUM(amount) AS BIGINT), 0
      FROM transfer JOIN ledger_account ON ledger_account.id = debit_account_id
     WHERE transfer.ledger_transaction_id = :original
     GROUP BY transfer.ledger_transaction_id, asset
        ON CONFLICT DO NOTHING""")


async def take_back(
    session: WriteSession, posting: Posting, original: int
) -> list[Transfer]:
    """The reversal's transfers, with the lots to which they return.

    Raises ``AlreadyReversed`` or ``ReversalTooLarge`` when less is left.
    """
    await (await session.connection()).execute(_BEGIN, {"original": original})
    amounts: dict[str, int] = {}
    for one in posting.transfers:
        asset = one.amount.asset.code
        amounts[asset] = amounts.get(asset, 0) + one.amount.atomic
    for asset in sorted(amounts):
        await _count(session, original, asset, amounts[asset])
    returned: list[Draw] = []
    transfers = []
    for one in posting.transfers:
        made = one
        if one.credit.customer_id is not None and one.target is None:
            made = await _aimed(session, one, original, returned)
        transfers.append(made)
    return transfers


async def reversed_so_far(session: WriteSession, original: int, asset: str) -> int:
    """How much earlier reversals took back, in the asset's atomic units."""
    query = select(Reversed.reversed).where(
        col(Reversed.ledger_transaction_id) == original, col(Reversed.asset) == asset
    )
    return (await session.exec(query)).one_or_none() or 0


async def _count(session: WriteSession, original: int, asset: str, amount: int) -> None:
    mine = (
        col(Reversed.ledger_transaction_id) == original,
        col(Reversed.asset) == asset,
    )
    statement = (
        update(Reversed)
        .where(*mine, col(Reversed.reversed) + amount <= col(Reversed.amount))
        .values(reversed=Reversed.reversed + amount)
        .execution_options(synchronize_session=False)
    )
    if (await session.exec(statement)).rowcount:
        return
    query = select(col(Reversed.amount) - col(Reversed.reversed)).where(*mine)
    left = (await session.exec(query)).one_or_none()
    if left is None:
        raise ValueError(f"transaction {original} moved no {asset}")
    raise _refusal(original, amount, left)


def _refusal(original: int, amount: int, left: int) -> TallystickError:
    if not left:
        return AlreadyReversed(original)
    return ReversalTooLarge(original, amount, left)


async def _aimed(
    session: WriteSession, one: Transfer, original: int, returned: list[Draw]
) -> Transfer:
    """The transfer with the lots that the customer's credits came from."""
    this = col(LedgerTransaction.id) == original
    drawn = await _lots_of(session, one.credit, this, debited=True)
    others = col(LedgerTransaction.reverses_id) == original
    before = await _lots_of(session, one.credit, others, debited=False)
    draws = last_drawn_first(drawn, before + returned, one.amount.atomic)
    returned += draws
    return replace(one, target=ToLots(draws))


async def _lots_of(
    session: WriteSession,
    name: AccountName,
    of: ColumnElement[bool],
    *,
    debited: bool,
) -> list[Draw]:
    """What the transactions took from the account's lots, or gave to them."""
    side = TransferRow.debit_account_id if debited else TransferRow.credit_account_id
    query = (
        select(col(TransferRow.lot_id), col(TransferRow.lots), TransferRow.amount)
        .join(
            LedgerTransaction,
            col(LedgerTransaction.id) == col(TransferRow.ledger_transaction_id),
        )
        .join(LedgerAccount, col(LedgerAccount.id) == col(side))
        .where(of, col(LedgerAccount.code) == name.code)
        .order_by(col(TransferRow.ledger_transaction_id), col(TransferRow.position))
    )
    sign = -1 if debited else 1
    found = (await session.exec(query)).all()
    return [
        Draw(draw_lot, abs(change))
        for lot_id, packed, amount in found
        for draw_lot, change in unpack(lot_id, packed, sign * amount)
        if change * sign > 0
    ]
