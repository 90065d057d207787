"""Charges of the plain kind, each with the event that says what was used."""

from tallystick.kernel.db import Database
from tallystick.ledger.plain import PlainCharge, Table
from tallystick.metering.charges import Usage

EVENTS = Table(
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
    """The charge with a fresh id, as ``charges.charge`` would book it; it is not free."""
    return PlainCharge(
        db.ids.new(),
        usage.customer_id,
        usage.price,
        usage.feature,
        usage.memo,
    )


def event_row(charge: PlainCharge, usage: Usage, *, now: int) -> tuple[object, ...]:
    """The row beside it; ``now`` in milliseconds."""
    return (
        charge.id,
        usage.customer_id,
        usage.feature,
        usage.quantity,
        usage.price,
        usage.catalog_version,
        now,
    )
