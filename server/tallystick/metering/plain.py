"""Charges of the plain kind, each with the event that says what was used."""

from collections.abc import Sequence

from tallystick.kernel.db import Database
from tallystick.kernel.money import MicroCredits
from tallystick.ledger.plain import Beside, PlainCharge, Table, book_plain
from tallystick.metering.charges import Charge, Usage

_EVENTS = Table(
    "usage_event",
    (
        ("id", "bigint"),
        ("customer_id", "bigint"),
        ("feature", "text"),
        ("quantity", "bigint"),
        ("credits", "bigint"),
        ("catalog_version", "text"),
        ("occurred_at_ms", "bigint"),
    ),
)


def plain_charge(db: Database, usage: Usage) -> PlainCharge:
    """The charge with fresh ids, as ``charges.charge`` would book it."""
    return PlainCharge(
        db.ids.new(),
        db.ids.new(),
        usage.customer_id,
        usage.feature,
        usage.price,
        usage.reference,
        usage.memo,
    )


async def charge_plain(
    db: Database,
    usages: Sequence[Usage],
    charges: Sequence[PlainCharge],
    beside: Sequence[Beside],
) -> list[Charge | None]:
    """Charge many at once, each for itself; ``None`` for those to be charged alone.

    ``charges`` are those of the usages, none of which is free. Raises as
    ``ledger.plain.book_plain`` does.
    """
    now = db.clock.now_ms()
    events = [
        (
            one.transaction_id,
            usage.customer_id,
            usage.feature,
            usage.quantity,
            usage.price,
            usage.catalog_version,
            now,
        )
        for usage, one in zip(usages, charges, strict=True)
    ]
    left = await book_plain(db, charges, [Beside(_EVENTS, events), *beside])
    return [
        None
        if after is None
        else Charge(one.transaction_id, usage.price, MicroCredits(after))
        for usage, one, after in zip(usages, charges, left, strict=True)
    ]
