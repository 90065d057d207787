"""Which customer a wallet belongs to."""

import re

from sqlalchemy import delete, insert
from sqlmodel import col, select

from tallystick.customers.errors import UnknownCustomer
from tallystick.customers.models import Customer, Wallet
from tallystick.kernel.db import ReadSession, WriteSession, insert_once, new_id, now_ms
from tallystick.kernel.ids import decode_id

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


async def customer_of_wallet(
    session: ReadSession | WriteSession, address: bytes
) -> int | None:
    """The customer whose wallet this is (20 bytes), or ``None``."""
    query = select(Wallet.customer_id).where(col(Wallet.address) == address)
    return (await session.exec(query)).one_or_none()


async def is_customer(session: ReadSession | WriteSession, customer_id: int) -> bool:
    """Whether there is a customer of that id."""
    query = select(Customer.id).where(col(Customer.id) == customer_id)
    return (await session.exec(query)).one_or_none() is not None


async def named_customer(session: ReadSession | WriteSession, named: str) -> int:
    """The customer of the id (``cus_…``) or the wallet (``0x…``) that somebody wrote.

    Raises ``UnknownCustomer``, or ``UnknownId`` for what is neither.
    """
    customer_id: int | None
    if _ADDRESS.fullmatch(named):
        customer_id = await customer_of_wallet(session, bytes.fromhex(named[2:]))
    else:
        told = decode_id("cus", named)
        customer_id = told if await is_customer(session, told) else None
    if customer_id is None:
        raise UnknownCustomer(named)
    return customer_id


async def ensure_customer_of_wallet(session: WriteSession, address: bytes) -> int:
    """The wallet's customer; a new one at its first payment.

    Call this only for an address whose holder has just signed a payment that it can
    make: a customer stays for ever.
    """
    if len(address) != 20:
        raise ValueError("an address is 20 bytes in canonical form")
    known = await customer_of_wallet(session, address)
    if known is not None:
        return known
    customer_id = await create_customer(session)
    wallet: dict[str, object] = {
        "address": address,
        "customer_id": customer_id,
        "proven_at_ms": now_ms(session),
    }
    if await insert_once(session, Wallet, wallet):
        return customer_id
    # Another process was first. Nobody has seen our customer yet, so none is left over.
    await session.exec(delete(Customer).where(col(Customer.id) == customer_id))
    other = await customer_of_wallet(session, address)
    assert other is not None
    return other


async def create_customer(session: WriteSession) -> int:
    """A customer without wallets or credits; its id."""
    customer_id = new_id(session)
    row = insert(Customer).values(id=customer_id, created_at_ms=now_ms(session))
    await session.exec(row)
    return customer_id
