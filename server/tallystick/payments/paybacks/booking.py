"""What paybacks do to the ledger, always in the transaction that changes their rows.

A proposal takes the credits out of their lot. The money itself is the treasury's when it
has left ``pay_to``, by a sweep to the float or by the payback's own Transfer, which the
observer books as it does any other: so a payback that is paid takes it from there.
"""

from sqlmodel import col, select

from tallystick.kernel.db import WriteSession
from tallystick.kernel.money import CREDIT, USDC, Amount, format_usdc
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.journal import post
from tallystick.ledger.lots import Draw
from tallystick.ledger.models import LedgerTransaction, TransactionKind
from tallystick.ledger.posting import FromLots, Posting, Transfer
from tallystick.ledger.references import reference_to
from tallystick.payments.models.paybacks import Payback
from tallystick.payments.rail import Rail


def _key(what: bytes, payback: Payback) -> bytes:
    return digest16(b"payback " + what, payback.id.to_bytes(8, "big"))


def _credits(payback: Payback) -> Amount:
    return Amount(payback.credits, CREDIT)


async def book_proposed(session: WriteSession, payback: Payback, lot_id: int) -> None:
    """Take its credits out of the lot. Raises ``InsufficientCredits``."""
    out = Transfer(
        chart.customer_credits(payback.customer_id),
        chart.paybacks(),
        _credits(payback),
        source=FromLots((Draw(lot_id, payback.credits),)),
    )
    posting = Posting(
        TransactionKind.PAYBACK,
        _key(b"proposed", payback),
        [out],
        reference_to("payback", payback.id),
        f"Unused credits, {format_usdc(payback.usdc)} goes back",
    )
    await post(session, posting)


async def book_cancelled(session: WriteSession, payback: Payback) -> None:
    """Return its credits to the very lot."""
    key = col(LedgerTransaction.idempotency_key) == _key(b"proposed", payback)
    original = (await session.exec(select(LedgerTransaction.id).where(key))).one()
    back = Transfer(
        chart.paybacks(), chart.customer_credits(payback.customer_id), _credits(payback)
    )
    posting = Posting(
        TransactionKind.REVERSAL,
        _key(b"cancelled", payback),
        [back],
        reference_to("payback", payback.id),
        "Nothing goes back; the credits may be spent again",
        reverses_id=original,
    )
    await post(session, posting)


async def book_paid(
    session: WriteSession, rail: Rail, payback: Payback, *, at_seconds: int
) -> None:
    """Credits and money are gone."""
    gone = Transfer(chart.paybacks(), chart.exchange(CREDIT), _credits(payback))
    money = Transfer(
        chart.exchange(USDC),
        chart.treasury(rail.network, rail.domain.contract),
        Amount(payback.usdc, USDC),
    )
    posting = Posting(
        TransactionKind.PAYBACK,
        _key(b"paid", payback),
        [gone, money],
        reference_to("payback", payback.id),
        f"{format_usdc(payback.usdc)} went back",
        occurred_at_ms=at_seconds * 1000,
    )
    await post(session, posting)
