"""The whole journal as a file, for the seller's accountant."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tallystick.exports.files import Export, Page, Period, Row
from tallystick.kernel.clock import rfc3339
from tallystick.kernel.db import Database, ReadSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import to_decimal
from tallystick.ledger.transfers import (
    BEFORE_THE_FIRST,
    Booked,
    count_transfers,
    transfers,
)

AT_ONCE = 1_000
_COLUMNS = (
    "transaction",
    "position",
    "type",
    "description",
    "reference",
    "debit",
    "credit",
    "asset",
    "amount",
    "reverses",
    "occurred_at",
    "posted_at",
    "posted_at_ms",
)
_SPELLED = {"topup": "top", "hold": "hld", "lot": "grt"}
"""What a reference names by its number, and how the API spells that."""


@asynccontextmanager
async def export_journal(db: Database, period: Period) -> AsyncIterator[Export]:
    """Every transfer of one moment, while the context lasts."""
    async with db.snapshot() as session:
        total = await count_transfers(session)
        yield Export(_COLUMNS, total, _pages(session, period))


async def _pages(session: ReadSession, period: Period) -> AsyncIterator[Page]:
    after = BEFORE_THE_FIRST
    while found := await transfers(session, after=after, limit=AT_ONCE):
        rows = [_row(one) for one in found if period.has(one.posted_at_ms)]
        yield Page(rows, len(found))
        after = found[-1].place


def _row(one: Booked) -> Row:
    reverses = one.reverses_id
    return {
        "transaction": encode_id("ltx", one.ledger_transaction_id),
        "position": one.position,
        "type": one.kind,
        "description": one.memo,
        "reference": _reference(one.reference),
        "debit": one.debit,
        "credit": one.credit,
        "asset": one.asset.code,
        "amount": to_decimal(one.amount, one.asset.scale),
        "reverses": None if reverses is None else encode_id("ltx", reverses),
        "occurred_at": rfc3339(one.occurred_at_ms),
        "posted_at": rfc3339(one.posted_at_ms),
        "posted_at_ms": one.posted_at_ms,
    }


def _reference(reference: str) -> str:
    found = re.fullmatch("([a-z]+):([0-9]{1,18})", reference)
    if found is None or found[1] not in _SPELLED:
        return reference
    return encode_id(_SPELLED[found[1]], int(found[2]))
