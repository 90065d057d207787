"""One owner for each key: a lease by the database's clock, with a fencing token.

A process that stood still while its lease ran out may wake up in the middle of signing.
So each write that stores a signature asks for the fence it was signed under; a row count
of 0 means that nothing is stored, and so that nothing is sent (docs/decisions/0020).
"""

from functools import partial

from sqlalchemy import ColumnElement, case, or_, true, update
from sqlmodel import col

from tallystick.kernel.db import Database, WriteSession, insert_once, now_ms
from tallystick.kernel.log import get_logger
from tallystick.payments.models.topups import RelayerRow
from tallystick.payments.rail import Rail, Relayer
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)


async def keep_leases(db: Database, rail: Rail) -> None:
    """Renew the leases that we hold, and take those that are free or lapsed.

    Asks no node, so that an outage of the chain costs no lease.
    """
    for relayer in rail.relayers:
        sequence = rail.sequence(relayer)
        # A SQLite file has one owner, so whoever had the key before is gone.
        seizes = db.is_sqlite and not sequence.was_asked_for
        fence = await db.write(partial(_take, rail, relayer, seizes=seizes))
        sequence.was_asked_for = True
        if sequence.own(fence):
            event = "relayer_lost" if fence is None else "relayer_taken"
            _log.info(event, relayer=checksum_address(relayer.address), fence=fence)


async def release_leases(db: Database, rail: Rail) -> None:
    """Let others have our keys at once: this process signs nothing more."""
    for relayer in rail.relayers:
        rail.sequence(relayer).own(None)
    await db.write(partial(_release, rail))


def row_of(rail: Rail, relayer: Relayer) -> tuple[ColumnElement[bool], ...]:
    """The key's own row."""
    return (
        col(RelayerRow.address) == relayer.address,
        col(RelayerRow.chain_id) == rail.domain.chain_id,
    )


def under_lease(
    session: WriteSession, rail: Rail, relayer: Relayer, fence: int
) -> tuple[ColumnElement[bool], ...]:
    """The key's row as long as the lease with this fence is in force."""
    return (
        *row_of(rail, relayer),
        col(RelayerRow.owner) == rail.owner,
        col(RelayerRow.fence) == fence,
        col(RelayerRow.leased_until_ms) > now_ms(session),
    )


async def _take(
    rail: Rail, relayer: Relayer, session: WriteSession, *, seizes: bool
) -> int | None:
    now = now_ms(session)
    lease_ms = int(rail.lease_seconds * 1000)
    row: dict[str, object] = {
        "address": relayer.address,
        "chain_id": rail.domain.chain_id,
        "next_nonce": 0,
        "fence": 0,
        "leased_until_ms": 0,
    }
    await insert_once(session, RelayerRow, row)
    until = col(RelayerRow.leased_until_ms)
    is_ours = col(RelayerRow.owner) == rail.owner
    # Absurdly far away: the clock has stepped back since.
    is_over = or_(until <= now, until > now + 10 * lease_ms)
    is_free = col(RelayerRow.owner).is_(None)
    statement = (
        update(RelayerRow)
        .where(
            *row_of(rail, relayer),
            true() if seizes else or_(is_free, is_ours, is_over),
        )
        .values(
            owner=rail.owner,
            fence=case(
                (is_ours, col(RelayerRow.fence)), else_=col(RelayerRow.fence) + 1
            ),
            leased_until_ms=now + lease_ms,
        )
        .returning(col(RelayerRow.fence))
    )
    return (await session.exec(statement)).scalar_one_or_none()


async def _release(rail: Rail, session: WriteSession) -> None:
    await session.exec(
        update(RelayerRow)
        .where(
            col(RelayerRow.chain_id) == rail.domain.chain_id,
            col(RelayerRow.owner) == rail.owner,
        )
        .values(owner=None, leased_until_ms=0)
    )
