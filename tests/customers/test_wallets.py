"""A wallet belongs to one customer from its first sight."""

import asyncio

import pytest

from tallystick.customers.wallets import (
    create_customer,
    customer_of_wallet,
    ensure_customer_of_wallet,
)
from tallystick.kernel.db import Database, query

_ALICE, _BOB = b"\xaa" * 20, b"\xbb" * 20


async def _ensure(db: Database, address: bytes) -> int:
    return await db.write(lambda session: ensure_customer_of_wallet(session, address))


async def _count(db: Database, table: str) -> int:
    async with db.read() as session:
        return int((await query(session, f"SELECT COUNT(*) AS n FROM {table}"))[0]["n"])


async def test_a_new_wallet_gets_a_customer_and_keeps_him(db: Database) -> None:
    async with db.read() as session:
        assert await customer_of_wallet(session, _ALICE) is None
    customer_id = await _ensure(db, _ALICE)
    assert await _ensure(db, _ALICE) == customer_id
    async with db.read() as session:
        assert await customer_of_wallet(session, _ALICE) == customer_id


async def test_different_wallets_have_different_customers(db: Database) -> None:
    assert await _ensure(db, _ALICE) != await _ensure(db, _BOB)


async def test_parallel_first_sights_make_one_customer_and_leave_none_over(
    db: Database,
) -> None:
    seen = await asyncio.gather(
        *[_ensure(db, address) for _ in range(32) for address in (_ALICE, _BOB)]
    )
    assert len(set(seen)) == 2
    assert len(set(seen[::2])) == 1
    assert await _count(db, "wallet") == 2
    assert await _count(db, "customer") == 2


async def test_a_customer_may_exist_without_a_wallet(db: Database) -> None:
    one = await db.write(create_customer)
    other = await db.write(create_customer)
    assert one != other
    assert await _count(db, "wallet") == 0


@pytest.mark.parametrize(
    "address", [b"", b"\xaa" * 19, b"\xaa" * 32, b"0x" + b"a" * 40]
)
async def test_an_address_is_twenty_bytes(db: Database, address: bytes) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        await _ensure(db, address)
