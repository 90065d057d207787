"""What a payback gives back: the money of a top-up, or of a redeemed transfer.

Either is final on the chain and stays so, has a wallet that has paid it, and a lot that
it has bought. How much of it goes back is counted beside it.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, update
from sqlmodel import col, select

from tallystick.credits.models import Grant, GrantCategory
from tallystick.kernel.db import Database, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import USDC
from tallystick.ledger.models import LedgerTransaction
from tallystick.payments.errors import UnknownTopUp
from tallystick.payments.models.chain import ChainTransfer, Presence, Redemption
from tallystick.payments.models.paybacks import PaidBack, Payback, TransferPaidBack
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.keys import grant_keys, redemption_key
from tallystick.payments.observing.unclaimed import block_of, is_still_booked
from tallystick.payments.paybacks.errors import (
    NothingToPayBack,
    SeveralTransfers,
    TopUpNotFinal,
    TransferNotFinal,
    UnknownRedemption,
)
from tallystick.payments.paybacks.terms import payback_nonce, transfer_payback_nonce
from tallystick.payments.rail import Rail
from tallystick.payments.topups import read_topup

Counter = type[PaidBack] | type[TransferPaidBack]


@dataclass(frozen=True, slots=True)
class PlainTransfer:
    """A redeemed Transfer by its transaction, and its log if there are several."""

    tx_hash: bytes
    log_index: int | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose money it was, and which lot it has bought."""

    paid: TopUp | ChainTransfer
    customer_id: int
    grant: Grant

    @property
    def named(self) -> str:
        """As an operator knows it."""
        return name_of(self.paid)

    @property
    def key(self) -> dict[str, Any]:
        """Of its counter, and of its paybacks."""
        if isinstance(self.paid, TopUp):
            return {"topup_id": self.paid.id}
        return {"chain_transfer_id": self.paid.id}

    @property
    def payer(self) -> bytes:
        """Who gets it back."""
        paid = self.paid
        return bytes(paid.payer if isinstance(paid, TopUp) else paid.sender)

    def nonce(self, number: int) -> bytes:
        """Of its payback of that number."""
        if isinstance(self.paid, TopUp):
            return payback_nonce(self.paid, number)
        return transfer_payback_nonce(self.paid, number)


def name_of(paid: TopUp | ChainTransfer) -> str:
    """As an operator knows it."""
    if isinstance(paid, TopUp):
        return encode_id("top", paid.id)
    return f"the transfer in 0x{bytes(paid.tx_hash).hex()}, log {paid.log_index}"


def counter_of(payback: Payback | Origin) -> tuple[Counter, ColumnElement[bool]]:
    """Where it is counted how much goes back, and the row."""
    if isinstance(payback, Payback):
        topup_id, transfer_id = payback.topup_id, payback.chain_transfer_id
    else:
        topup_id = payback.key.get("topup_id")
        transfer_id = payback.key.get("chain_transfer_id")
    if topup_id is not None:
        return PaidBack, col(PaidBack.topup_id) == topup_id
    return TransferPaidBack, col(TransferPaidBack.chain_transfer_id) == transfer_id


async def final_transfer(
    db: Database, rail: Rail, wanted: PlainTransfer
) -> ChainTransfer:
    """The redeemed Transfer, in a block that nothing can replace any more.

    Raises ``UnknownRedemption``, ``SeveralTransfers``, ``TransferNotFinal`` or
    ``RpcUnavailable``.
    """
    found = col(ChainTransfer.tx_hash) == wanted.tx_hash
    if wanted.log_index is not None:
        found &= col(ChainTransfer.log_index) == wanted.log_index
    query = (
        select(ChainTransfer)
        .join(Redemption, col(Redemption.chain_transfer_id) == col(ChainTransfer.id))
        .where(
            found,
            col(Redemption.generation) == col(ChainTransfer.generation),
            col(ChainTransfer.chain_id) == rail.domain.chain_id,
            col(ChainTransfer.token) == rail.domain.contract,
            col(ChainTransfer.presence) == Presence.BOOKED,
        )
        .order_by(col(ChainTransfer.log_index))
    )
    async with db.read() as session:
        rows = (await session.exec(query)).all()
    if not rows:
        raise UnknownRedemption(wanted.tx_hash)
    if len(rows) > 1:
        raise SeveralTransfers([one.log_index for one in rows])
    (row,) = rows
    final = await rail.chain.block("finalized")
    if final is None or row.block_number > final.number:
        raise TransferNotFinal(name_of(row))
    if await block_of(rail, row) is None:
        raise TransferNotFinal(name_of(row))
    return row


async def origin_of_transfer(session: WriteSession, row: ChainTransfer) -> Origin:
    """What it has bought, if it is as it was read; then it stays so.

    Raises ``UnknownRedemption`` or ``NothingToPayBack``.
    """
    query = select(Redemption.customer_id).where(
        col(Redemption.chain_transfer_id) == row.id,
        col(Redemption.generation) == row.generation,
    )
    still = await is_still_booked(session, row)
    customer_id = (await session.exec(query)).one_or_none()
    if not still or customer_id is None:
        raise UnknownRedemption(bytes(row.tx_hash))
    bought = redemption_key(row.id, row.generation)
    grant = await _grant(session, bought, name_of(row))
    return Origin(row, customer_id, grant)


async def origin_of_topup(session: WriteSession, rail: Rail, topup_id: int) -> Origin:
    """What it has bought; a bonus is another grant, of which nothing goes back.

    Raises ``UnknownTopUp``, ``TopUpNotFinal`` or ``NothingToPayBack``.
    """
    topup = await read_topup(session, topup_id)
    await _require_final(session, rail, topup)
    bought, _ = grant_keys(topup)
    grant = await _grant(session, bought, name_of(topup))
    return Origin(topup, topup.customer_id, grant)


async def _require_final(session: WriteSession, rail: Rail, topup: TopUp) -> None:
    """It is final, and stays so until this is written."""
    if (topup.chain_id, bytes(topup.token)) != (
        rail.domain.chain_id,
        rail.domain.contract,
    ):
        raise UnknownTopUp(topup.id)
    final = col(TopUp.id) == topup.id, col(TopUp.state) == TopUpState.FINAL
    kept = update(TopUp).where(*final).values(state=TopUpState.FINAL)
    kept = kept.execution_options(synchronize_session=False)
    if (await session.exec(kept)).rowcount != 1:
        raise TopUpNotFinal(topup.id, topup.state)


async def _grant(session: WriteSession, bought: bytes, named: str) -> Grant:
    query = (
        select(Grant)
        .join(
            LedgerTransaction,
            col(LedgerTransaction.id) == col(Grant.ledger_transaction_id),
        )
        .where(
            col(LedgerTransaction.idempotency_key) == bought,
            col(Grant.category) == GrantCategory.PAID,
            col(Grant.cost_asset) == USDC.code,
        )
    )
    grant = (await session.exec(query)).one_or_none()
    if grant is None:  # a payment too small for one micro-credit
        raise NothingToPayBack(named)
    return grant
