"""Above an amount, no Transfer is credited that only one provider has shown (A37).

The witness is asked before the transaction that credits, because nobody waits for a
network inside one. Who credits is handed what was heard together with the Transfer of
which it was heard.
"""

import asyncio
from dataclasses import dataclass

from tallystick.chain.evidence import TransferLog
from tallystick.chain.witness import Testimony, testify
from tallystick.kernel.log import get_logger
from tallystick.payments.errors import PaymentUnderReview, TransferNotSafe
from tallystick.payments.machine import Act, heed
from tallystick.payments.rail import Rail

_log = get_logger(__name__)
_REMEMBERED = 1_000
_SLOW_SECONDS = 0.5
_REST = 10


@dataclass(frozen=True, slots=True)
class Heard:
    """A Transfer, and what the witness says of it."""

    seen: TransferLog
    testimony: Testimony = Testimony.UNASKED


def is_large(rail: Rail, seen: TransferLog) -> bool:
    """Whether it is credited only if the witness shows it, too."""
    return rail.witness is not None and seen.amount >= rail.witness.above


async def hear(rail: Rail, seen: TransferLog, *, must: bool = False) -> Heard:
    """Ask the witness, if the amount is large enough and it has not agreed before.

    Or whatever the amount, if it ``must`` be heard. Whoever has just kept us waiting for nothing is not asked again at once: others
    wait for the worker that asks.
    """
    if rail.witness is None or not (must or is_large(rail, seen)):
        return Heard(seen)
    before = rail.outlook.testimonies.get(_place(seen))
    if before == Testimony.AGREES:
        return Heard(seen, before)
    now = asyncio.get_running_loop().time
    began = now()
    if began < rail.outlook.witness_rests_until:
        return Heard(seen, Testimony.SILENT)
    testimony = await testify(rail.witness.chain, seen)
    took = now() - began
    if testimony == Testimony.SILENT and took > _SLOW_SECONDS:
        rail.outlook.witness_rests_until = now() + _REST * took
    _remember(rail, seen, before, testimony)
    return Heard(seen, testimony)


def _place(seen: TransferLog) -> tuple[object, ...]:
    """All that was asked: a node may show another Transfer in the same place."""
    where = (seen.block_number, seen.block_hash, seen.tx_hash, seen.log_index)
    return (*where, seen.payer, seen.pay_to, seen.amount, seen.nonce)


def _remember(
    rail: Rail, seen: TransferLog, before: Testimony | None, now: Testimony
) -> None:
    """Count and tell what is new."""
    outlook = rail.outlook
    outlook.testimonies.pop(_place(seen), None)
    outlook.testimonies[_place(seen)] = now
    if len(outlook.testimonies) > _REMEMBERED:
        del outlook.testimonies[next(iter(outlook.testimonies))]
    if now == before:
        return
    outlook.witness_agreed += now == Testimony.AGREES
    against = (Testimony.DISAGREES, Testimony.CONTRADICTS)
    outlook.witness_disagreed += now in against and before not in against
    where = {"block": seen.block_number, "transaction": f"0x{seen.tx_hash.hex()}"}
    if now == Testimony.CONTRADICTS:
        _log.error("witness_contradicts", **where)
    elif now != Testimony.AGREES:
        _log.warning("witness_does_not_agree", says=now, **where)


def require_witnessed(rail: Rail, heard: Heard) -> None:
    """Raise ``TransferNotSafe`` or ``PaymentUnderReview`` unless it may be credited."""
    if not is_large(rail, heard.seen):
        return
    act = heed(heard.testimony).act
    if act == Act.MOVE:
        raise PaymentUnderReview(None)
    if act != Act.CREDIT:
        raise TransferNotSafe("the transfer arrived; a second node has yet to show it")
