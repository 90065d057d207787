"""What is sealed, as a test asks for it."""

from tallystick.kernel.db import Database, query
from tallystick.ledger.links import Head, unpacked
from tallystick.ledger.sealing import sealed_up_to


async def ids_of(db: Database) -> list[int]:
    async with db.read() as session:
        rows = await query(session, "SELECT id FROM ledger_transaction ORDER BY id")
    return [row["id"] for row in rows]


async def sealed_ids(db: Database) -> list[list[int]]:
    async with db.read() as session:
        rows = await query(
            session, "SELECT transaction_ids FROM journal_seal ORDER BY number"
        )
    return [list(unpacked(row["transaction_ids"])) for row in rows]


async def head_of(db: Database) -> Head:
    async with db.read() as session:
        return (await sealed_up_to(session)).head
