"""The addresses that were ``pay_to``: quotes made for them are kept, and money comes.

The address in the settings is the one that offers name. Those before it stay in the
books: their Transfers are read for ever, and each has its own figures
(docs/decisions/0022).
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import ColumnElement, update
from sqlmodel import col, select

from tallystick.kernel.db import (
    Database,
    ReadSession,
    WriteSession,
    insert_once,
    now_ms,
)
from tallystick.kernel.log import get_logger
from tallystick.payments.models.chain import ChainCursor, Payee
from tallystick.payments.rail import Rail
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)


async def become_payee(db: Database, rail: Rail) -> None:
    """Write down that ``pay_to`` is the rail's from now on, if another was before."""

    async def work(session: WriteSession) -> bool:
        now = now_ms(session)
        row: dict[str, object] = {
            "chain_id": rail.domain.chain_id,
            "token": rail.domain.contract,
            "pay_to": rail.pay_to,
            "since_ms": now,
        }
        is_new = await insert_once(session, Payee, row)
        rows = (await session.exec(select(Payee).where(*_of_token(rail)))).all()
        others = [one for one in rows if bytes(one.pay_to) != rail.pay_to]
        (mine,) = [one for one in rows if bytes(one.pay_to) == rail.pay_to]
        if is_new or not any(one.since_ms >= mine.since_ms for one in others):
            return is_new and bool(others)
        own = (*_of_token(rail), col(Payee.pay_to) == rail.pay_to)
        await session.exec(update(Payee).where(*own).values(since_ms=now))
        return True

    if await db.write(work):
        _log.warning("payee_changed", pay_to=checksum_address(rail.pay_to))
    await know_payees(db, rail)


async def know_payees(db: Database, rail: Rail) -> None:
    """Learn the other addresses, and since when each has not been offered any more."""
    async with db.read() as session:
        await _know(session, rail)


async def _know(session: ReadSession, rail: Rail) -> None:
    rows = (await session.exec(select(Payee).where(*_of_token(rail)))).all()
    began = [one.since_ms for one in rows if bytes(one.pay_to) == rail.pay_to]
    rail.payees.retired_at_ms = {
        bytes(one.pay_to): began[0] if began else one.since_ms
        for one in rows
        if bytes(one.pay_to) != rail.pay_to
    }


async def rails_of(db: Database, rail: Rail) -> Sequence[Rail]:
    """The rail, and one for each earlier address whose books are open."""
    query = select(ChainCursor.pay_to).where(
        col(ChainCursor.chain_id) == rail.domain.chain_id,
        col(ChainCursor.token) == rail.domain.contract,
        col(ChainCursor.pay_to) != rail.pay_to,
    )
    async with db.read() as session:
        await _know(session, rail)
        earlier = (await session.exec(query.order_by(col(ChainCursor.pay_to)))).all()
    return [rail, *(replace(rail, pay_to=bytes(one)) for one in earlier)]


def _of_token(rail: Rail) -> tuple[ColumnElement[bool], ...]:
    return (
        col(Payee.chain_id) == rail.domain.chain_id,
        col(Payee.token) == rail.domain.contract,
    )
