"""Giving credits to a customer: each grant is a lot of his account."""

from dataclasses import dataclass

from sqlalchemy import insert
from sqlmodel import col, select

from tallystick.credits.models import Grant, GrantCategory
from tallystick.kernel.db import ReadSession, WriteSession, new_id, now_ms, query
from tallystick.kernel.money import CREDIT, Amount, MicroCredits
from tallystick.ledger import chart
from tallystick.ledger.errors import IdempotencyMismatch
from tallystick.ledger.journal import post
from tallystick.ledger.lotted import PLAIN, LotTerms
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posted, Posting, ToNewLot, Transfer


@dataclass(frozen=True, slots=True)
class PaidGrant:
    """Credits that were bought: what they cost, and where the money is now.

    They never expire; ``priority`` says when they burn, lower first.
    """

    customer_id: int
    credits: MicroCredits
    cost: Amount
    paid_into: chart.AccountName
    idempotency_key: bytes
    reference: str
    memo: str
    occurred_at_ms: int | None = None
    priority: int = 0


async def grant_paid(session: WriteSession, grant: PaidGrant) -> Posted:
    """Book the money and the credits it bought in one transaction, once per key.

    A payment too small to buy one micro-credit is booked as money alone. Raises
    ``IdempotencyMismatch`` when the key stands for another grant.
    """
    money = Transfer(grant.paid_into, chart.exchange(grant.cost.asset), grant.cost)
    transfers = [money]
    grant_id = new_id(session)
    if grant.credits:
        terms = LotTerms(grant.priority, bought=True)
        transfers.append(
            Transfer(
                chart.exchange(CREDIT),
                chart.customer_credits(grant.customer_id),
                Amount(grant.credits, CREDIT),
                target=ToNewLot(terms, grant_id),
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
        await session.exec(
            insert(Grant).values(
                id=grant_id,
                customer_id=grant.customer_id,
                category=GrantCategory.PAID,
                amount=grant.credits,
                cost_amount=grant.cost.atomic,
                cost_asset=grant.cost.asset.code,
                ledger_transaction_id=posted.ledger_transaction_id,
                granted_at_ms=now_ms(session),
            )
        )
    return posted


async def grant_free(
    session: WriteSession,
    customer_id: int,
    credits_given: MicroCredits,
    *,
    category: GrantCategory,
    terms: LotTerms = PLAIN,
    idempotency_key: bytes,
    reference: str,
    memo: str,
) -> Posted:
    """Give credits that this customer did not buy, once per key.

    Raises ``IdempotencyMismatch`` when the key stands for another grant, ``ValueError``
    for category ``paid`` (see ``grant_paid``) and for terms that end before they begin.
    """
    if category is GrantCategory.PAID or terms.bought:
        raise ValueError("what was paid for says what it cost: grant_paid")
    grant_id = new_id(session)
    transfer = Transfer(
        chart.promotions(),
        chart.customer_credits(customer_id),
        Amount(credits_given, CREDIT),
        target=ToNewLot(terms, grant_id),
    )
    posting = Posting(
        TransactionKind.GRANT, idempotency_key, [transfer], reference, memo
    )
    posted = await post(session, posting)
    if posted.replayed:
        await _require_category(session, posted.ledger_transaction_id, category)
        return posted
    await session.exec(
        insert(Grant).values(
            id=grant_id,
            customer_id=customer_id,
            category=category,
            amount=credits_given,
            ledger_transaction_id=posted.ledger_transaction_id,
            granted_at_ms=now_ms(session),
        )
    )
    return posted


async def _require_category(
    session: WriteSession, transaction_id: int, category: GrantCategory
) -> None:
    """The ledger does not know it, so it is no part of what the posting compares."""
    given = select(Grant.category).where(
        col(Grant.ledger_transaction_id) == transaction_id
    )
    if (await session.exec(given)).one() != category:
        raise IdempotencyMismatch


async def grant_promotional(
    session: WriteSession,
    customer_id: int,
    credits_given: MicroCredits,
    *,
    idempotency_key: bytes,
    reference: str,
    memo: str,
) -> Posted:
    """Give promotional credits that never expire, once per key."""
    return await grant_free(
        session,
        customer_id,
        credits_given,
        category=GrantCategory.PROMOTIONAL,
        idempotency_key=idempotency_key,
        reference=reference,
        memo=memo,
    )


@dataclass(frozen=True, slots=True)
class GrantView:
    """A grant with what is left of it, in micro-credits; times in milliseconds.

    ``remaining`` is what neither was spent nor is held nor has expired.
    """

    id: int
    category: str
    amount: MicroCredits
    remaining: MicroCredits
    granted_at_ms: int
    effective_at_ms: int
    expires_at_ms: int | None


async def grants_of(
    session: ReadSession | WriteSession, customer_id: int, *, limit: int
) -> list[GrantView]:
    """The customer's grants, newest first, by the session's clock."""
    found = await query(
        session, _GRANTS, customer_id=customer_id, now=now_ms(session), limit=limit
    )
    return [
        GrantView(
            row["id"],
            row["category"],
            MicroCredits(row["amount"]),
            MicroCredits(row["left"]),
            row["granted_at_ms"],
            row["effective_at_ms"],
            row["expires_at_ms"],
        )
        for row in found
    ]


_GRANTS = """
    SELECT credit_grant.id, category, credit_grant.amount, granted_at_ms,
           effective_at_ms, expires_at_ms,
           CASE WHEN expires_at_ms <= :now THEN 0 ELSE remaining END AS "left"
      FROM credit_grant JOIN lot_left ON lot_left.id = credit_grant.id
     WHERE customer_id = :customer_id
     ORDER BY credit_grant.id DESC LIMIT :limit"""
