"""The catalogs that offers were made from lately, for payments that name none.

A payment of version 2 brings its quote along. One of version 1 echoes nothing, so after
a restart with other prices only the old catalog tells what was offered. Each process
notes its own while it serves: an offer is honoured as long as its challenge lives.
"""

from functools import lru_cache

from pydantic import ValidationError
from sqlalchemy import delete, update
from sqlmodel import col, select

from tallystick.catalog.models import Catalog
from tallystick.kernel import json
from tallystick.kernel.db import Database, WriteSession, insert_once, now_ms
from tallystick.paywall.gate import Gate
from tallystick.paywall.models import OfferedCatalog

NOTE_SECONDS = 30
"""How often it is noted, and so how much longer an offer may be honoured."""
_KEPT_MS = 24 * 3600 * 1000
_MOST = 8


async def note_offered(db: Database, catalog: Catalog) -> None:
    """Remember that offers are being made from this catalog, and forget old ones."""
    document = catalog.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = json.dumps(document).decode()

    async def work(session: WriteSession) -> None:
        now = now_ms(session)
        row: dict[str, object] = {
            "version": catalog.version,
            "document": text,
            "last_offered_ms": now,
        }
        version, last = col(OfferedCatalog.version), col(OfferedCatalog.last_offered_ms)
        if not await insert_once(session, OfferedCatalog, row):
            again = update(OfferedCatalog).where(version == catalog.version, last < now)
            await session.exec(again.values(last_offered_ms=now))
        await session.exec(delete(OfferedCatalog).where(last < now - _KEPT_MS))

    await db.write(work)


async def recent_catalogs(gate: Gate) -> list[Catalog]:
    """Other catalogs whose offers somebody may still hold, the latest first."""
    async with gate.db.read() as session:
        last = col(OfferedCatalog.last_offered_ms)
        since_ms = now_ms(session) - (gate.quote_seconds + NOTE_SECONDS) * 1000
        query = select(OfferedCatalog.version, OfferedCatalog.document).where(
            last >= since_ms, col(OfferedCatalog.version) != gate.catalog().version
        )
        rows = (await session.exec(query.order_by(last.desc()).limit(_MOST))).all()
    found = [_read(version, document) for version, document in rows]
    return [one for one in found if one is not None]


@lru_cache(maxsize=2 * _MOST)
def _read(version: str, document: str) -> Catalog | None:
    """The catalog as it was; None for one that this release reads in another way."""
    try:
        catalog = Catalog.model_validate(json.loads(document.encode()))
    except ValidationError:
        return None
    return catalog if catalog.version == version else None
