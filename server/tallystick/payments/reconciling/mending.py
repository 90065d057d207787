"""What a node kept back is read again when books and chain differ, and booked.

Where they agreed last is a checkpoint, so that few blocks are read. Each node is asked
for their logs by itself: another may have what the first keeps back. Nothing is booked
that the token's own balance does not vouch for (docs/decisions/0034).
"""

from tallystick.chain.errors import RpcErrorAnswer, RpcUnavailable
from tallystick.chain.rpc import Chain
from tallystick.kernel.db import Database
from tallystick.kernel.log import get_logger
from tallystick.payments.observing.matching import Rate
from tallystick.payments.observing.payees import rails_of
from tallystick.payments.observing.rereading import (
    SPAN_BLOCKS,
    Missed,
    Reread,
    book_missed,
    missed_between,
)
from tallystick.payments.rail import Rail
from tallystick.payments.reconciling.reconcile import PayeeFigures, Reconciliation

_log = get_logger(__name__)
_SPANS = 20


async def mend(
    db: Database, rail: Rail, rate: Rate, found: Reconciliation, *, hold_seconds: int
) -> Reread:
    """Book what is missing of the blocks in which they differ; what was booked.

    Raises ``RpcUnavailable`` when no node answers.
    """
    done = Reread()
    figures = {one.pay_to: one for one in found.payees if one.findings}
    for one in await rails_of(db, rail):
        if one.pay_to in figures:
            done += await _mend(
                db, one, rate, figures[one.pay_to], hold_seconds=hold_seconds
            )
    return done


async def _mend(
    db: Database, rail: Rail, rate: Rate, figures: PayeeFigures, *, hold_seconds: int
) -> Reread:
    missed = await _missed(db, rail, figures)
    if not missed.count:
        return Reread()
    if not _is_vouched(missed, figures.unbooked_usdc):
        # Logs that the balance does not bear out: a node may have made them up.
        _log.error(
            "missed_transfers_unproven",
            usdc_atomic=missed.net,
            balance_atomic=figures.unbooked_usdc,
            first=figures.agreed_block + 1,
            last=figures.block_number,
        )
        return Reread()
    return await book_missed(db, rail, rate, missed, hold_seconds=hold_seconds)


def _is_vouched(missed: Missed, unbooked: int) -> bool:
    """Whether the balance is off by at least what is missing, the same way."""
    if missed.net >= 0:
        return missed.net <= unbooked
    return missed.net >= unbooked


async def _missed(db: Database, rail: Rail, figures: PayeeFigures) -> Missed:
    """By the first node that shows anything, from where they agreed last."""
    last = figures.block_number
    first = max(figures.agreed_block + 1, last - _SPANS * SPAN_BLOCKS + 1)
    answered = False
    for node in rail.chain.each():
        try:
            missed = await _by(db, rail, node, first, last)
        except (RpcUnavailable, RpcErrorAnswer):
            continue
        answered = True
        if missed.count:
            return missed
    if not answered:
        raise RpcUnavailable("no node shows the logs of the blocks that differ")
    return Missed()


async def _by(db: Database, rail: Rail, node: Chain, first: int, last: int) -> Missed:
    found = Missed()
    while first <= last:
        height = min(first + SPAN_BLOCKS - 1, last)
        found += await missed_between(db, rail, first, height, node=node)
        first = height + 1
    return found
