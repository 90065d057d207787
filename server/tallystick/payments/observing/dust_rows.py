"""Which rows tell of dust, and how a payment that was among it gets out again."""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, delete, update
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import USDC, Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.journal import post
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer
from tallystick.payments.models.chain import ChainDust, ChainTransfer, Payee

LARGEST_DUST = 100_000
"""Atomic USDC; whatever the setting was, nothing from here on was passed over."""


async def leave_dust(
    session: WriteSession, network: str, chain_id: int, token: bytes, seen: TransferLog
) -> None:
    """Take a Transfer that has a row from now on out of the dust it was gathered with.

    What a permit moved by another contract's call looks like any plain Transfer, until
    its payer presents it.
    """
    if seen.amount >= LARGEST_DUST or (seen.nonce and not seen.authority):
        return
    # Who gathers changes this row first, and then looks for rows of Transfers.
    mine = of_payee(Payee, chain_id, token, seen.pay_to)
    await session.exec(select(Payee.dust_upto).where(*mine).with_for_update())
    stretches = of_payee(ChainDust, chain_id, token, seen.pay_to)
    stretch = await _without(session, stretches, seen)
    if stretch is None:
        return
    chain, suspense = (
        account(network, token) for account in (chart.chain_assets, chart.suspense)
    )
    posting = Posting(
        TransactionKind.SUSPENSE,
        digest16(b"no dust", seen.block_hash, b"%d" % seen.log_index),
        [Transfer(suspense, chain, Amount(seen.amount, USDC))],
        dust_reference(*stretch),
        memo="A payment was among the dust",
    )
    await post(session, posting)


async def _without(
    session: WriteSession, stretches: Sequence[ColumnElement[bool]], seen: TransferLog
) -> tuple[int, int] | None:
    """The stretch of its block, which counts it no more; None if none did."""
    blocks = (col(ChainDust.first_block), col(ChainDust.last_block))
    its = (*stretches, blocks[0] <= seen.block_number, blocks[1] >= seen.block_number)
    less = (
        update(ChainDust)
        .where(*its, col(ChainDust.value) > seen.amount)
        .values(transfers=ChainDust.transfers - 1, value=ChainDust.value - seen.amount)
        .returning(*blocks)
    )
    alone = delete(ChainDust).where(*its).returning(*blocks)
    for statement in (less, alone):
        done = statement.execution_options(synchronize_session=False)
        if (found := (await session.exec(done)).one_or_none()) is not None:
            return found[0], found[1]
    return None


def dust_reference(first_block: int, last_block: int) -> str:
    """What the ledger calls it."""
    return f"dust:{first_block}-{last_block}"


def of_payee(
    table: type[ChainDust] | type[Payee] | type[ChainTransfer],
    chain_id: int,
    token: bytes,
    pay_to: bytes,
) -> tuple[ColumnElement[bool], ...]:
    """That a row is of this address."""
    return (
        col(table.chain_id) == chain_id,
        col(table.token) == token,
        col(table.pay_to) == pay_to,
    )
