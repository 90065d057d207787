"""Other sellers who may have payments settled here, each with a key and addresses.

A merchant key (``mk_``) opens the facilitator's doors and no other: it has a table of
its own, so that no mistake makes it a key to customers' credits (decision 28).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import insert, update
from sqlmodel import col, select

from tallystick.kernel.db import ReadSession, WriteSession, new_id, now_ms
from tallystick.kernel.key_text import NoKey, compose, new_secret, take_apart
from tallystick.kernel.seal import Seal
from tallystick.payments.merchants.errors import (
    InvalidMerchantKey,
    TooManyForMerchant,
    UnknownMerchant,
)
from tallystick.payments.models.merchants import Merchant, MerchantPayee
from tallystick.payments.rail import Rail

_PREFIX: Final = "mk"
_PURPOSE: Final = "merchant key"
MOST_AT_ONCE: Final = 200
"""Requests of one merchant that go on in one process."""


@dataclass(frozen=True, slots=True)
class ProvenMerchant:
    """A merchant whose key was verified just now; ``payees`` are its addresses."""

    id: int
    payees: frozenset[bytes]


@contextmanager
def place_for(rail: Rail, merchant: ProvenMerchant) -> Iterator[None]:
    """A place for one of its requests; raises ``TooManyForMerchant`` without one.

    Each may wait for a block, and one merchant must not take all of them.
    """
    if rail.merchants_busy[merchant.id] >= MOST_AT_ONCE:
        raise TooManyForMerchant(MOST_AT_ONCE)
    rail.merchants_busy[merchant.id] += 1
    try:
        yield
    finally:
        rail.merchants_busy[merchant.id] -= 1


@dataclass(frozen=True, slots=True)
class NewMerchant:
    """A merchant just made. ``secret`` is the whole key; it cannot be shown again."""

    id: int
    secret: str = field(repr=False)


async def add_merchant(
    session: WriteSession, seal: Seal, *, name: str, payees: Iterable[bytes]
) -> NewMerchant:
    """Let another seller have payments to these addresses settled here."""
    merchant_id, secret = new_id(session), new_secret()
    await session.exec(
        insert(Merchant).values(
            id=merchant_id,
            name=name,
            secret_mac=seal.mac(_PURPOSE, secret.encode()),
            created_at_ms=now_ms(session),
        )
    )
    for pay_to in sorted(set(payees)):
        await session.exec(
            insert(MerchantPayee).values(merchant_id=merchant_id, pay_to=pay_to)
        )
    return NewMerchant(merchant_id, compose(_PREFIX, merchant_id, secret))


async def verify_merchant(
    session: ReadSession, seal: Seal, text: str
) -> ProvenMerchant:
    """Whose key it is; raises ``InvalidMerchantKey``, always in the same words."""
    try:
        _, merchant_id, secret = take_apart(text, (_PREFIX,))
    except NoKey as error:
        raise InvalidMerchantKey from error
    query = select(Merchant).where(col(Merchant.id) == merchant_id)
    row = (await session.exec(query)).one_or_none()
    # A key that does not exist is compared too, so that the answer takes as long.
    expected = row.secret_mac if row is not None else bytes(32)
    fits = seal.verify(_PURPOSE, secret.encode(), expected)
    if row is None or not fits or row.revoked_at_ms is not None:
        raise InvalidMerchantKey
    return ProvenMerchant(row.id, frozenset(await payees_of(session, row.id)))


async def payees_of(session: ReadSession, merchant_id: int) -> list[bytes]:
    """The addresses that the merchant's payments may go to."""
    query = select(MerchantPayee.pay_to).where(
        col(MerchantPayee.merchant_id) == merchant_id
    )
    ordered = query.order_by(col(MerchantPayee.pay_to))
    return [bytes(one) for one in (await session.exec(ordered)).all()]


async def list_merchants(session: ReadSession) -> list[tuple[Merchant, list[bytes]]]:
    """All merchants with their addresses, newest first; never a secret."""
    query = select(Merchant).order_by(col(Merchant.id).desc())
    rows = (await session.exec(query)).all()
    return [(one, await payees_of(session, one.id)) for one in rows]


async def revoke_merchant(session: WriteSession, merchant_id: int) -> None:
    """End a merchant's key at once, for good; what is under way is settled.

    Raises ``UnknownMerchant``.
    """
    ended = await session.exec(
        update(Merchant)
        .where(col(Merchant.id) == merchant_id, col(Merchant.revoked_at_ms).is_(None))
        .values(revoked_at_ms=now_ms(session))
    )
    if not ended.rowcount:
        raise UnknownMerchant(merchant_id)
