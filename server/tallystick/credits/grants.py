"""Giving credits to a customer."""

from dataclasses import dataclass

from sqlalchemy import insert
from sqlmodel import col, select

from tallystick.credits.models import Grant, GrantCategory
from tallystick.kernel.db import ReadSession, WriteSession, new_id, now_ms
from tallystick.kernel.money import CREDIT, Amount, MicroCredits
from tallystick.ledger import chart
from tallystick.ledger.journal import Posted, Posting, Transfer, post
from tallystick.ledger.models import TransactionKind


@dataclass(frozen=True, slots=True)
class PaidGrant:
    """Credits that were bought: what they cost, and where the money is now."""

    customer_id: int
    credits: MicroCredits
    cost: Amount
    paid_into: chart.AccountName
    idempotency_key: bytes
    reference: str
    memo: str
    occurred_at_ms: int | None = None


async def grant_paid(session: WriteSession, grant: PaidGrant) -> Posted:
    """Book the money and the credits it bought in one transaction, once per key.

    A payment too small to buy one micro-credit is booked as money alone. Raises
    ``IdempotencyMismatch`` when the key stands for another grant.
    """
    money = Transfer(grant.paid_into, chart.exchange(grant.cost.asset), grant.cost)
    transfers = [money]
    if grant.credits:
        transfers.append(
            Transfer(
                chart.exchange(CREDIT),
                chart.customer_credits(grant.customer_id),
                Amount(grant.credits, CREDIT),
            )
        )
    posted = await post(
        session,
        Posting(
            TransactionKind.TOPUP,
            grant.idempotency_key,
            transfers,
            grant.reference,
            grant.memo,
            occurred_at_ms=grant.occurred_at_ms,
        ),
    )
    if grant.credits and not posted.replayed:
        await _record(session, posted, grant)
    return posted


async def _record(session: WriteSession, posted: Posted, grant: PaidGrant) -> None:
    await session.exec(
        insert(Grant).values(
            id=new_id(session),
            customer_id=grant.customer_id,
            category=GrantCategory.PAID,
            amount=grant.credits,
            cost_amount=grant.cost.atomic,
            cost_asset=grant.cost.asset.code,
            ledger_transaction_id=posted.ledger_transaction_id,
            granted_at_ms=now_ms(session),
        )
    )


async def grants_of(
    session: ReadSession | WriteSession, customer_id: int, *, limit: int
) -> list[Grant]:
    """The customer's grants, newest first."""
    query = select(Grant).where(col(Grant.customer_id) == customer_id)
    newest = query.order_by(col(Grant.id).desc()).limit(limit)
    return list((await session.exec(newest)).all())


async def grant_promotional(
    session: WriteSession,
    customer_id: int,
    credits_given: MicroCredits,
    *,
    idempotency_key: bytes,
    reference: str,
    memo: str,
) -> Posted:
    """Give credits that nobody paid for, once per key."""
    transfer = Transfer(
        chart.promotions(),
        chart.customer_credits(customer_id),
        Amount(credits_given, CREDIT),
    )
    posting = Posting(
        TransactionKind.GRANT, idempotency_key, [transfer], reference, memo
    )
    posted = await post(session, posting)
    if not posted.replayed:
        await session.exec(
            insert(Grant).values(
                id=new_id(session),
                customer_id=customer_id,
                category=GrantCategory.PROMOTIONAL,
                amount=credits_given,
                ledger_transaction_id=posted.ledger_transaction_id,
                granted_at_ms=now_ms(session),
            )
        )
    return posted
