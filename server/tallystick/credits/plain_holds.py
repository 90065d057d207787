"""Holds of the plain kind: placed together with others in one write."""

from tallystick.credits.models import HoldState
from tallystick.ledger.plain import PlainHold, Table

HOLDS = Table(
    "hold",
    (
        ("id", "bigint"),
        ("customer_id", "bigint"),
        ("feature", "text"),
        ("amount", "bigint"),
        ("captured", "bigint"),
        ("state", "text"),
        ("placed_at_ms", "bigint"),
        ("expires_at_ms", "bigint"),
    ),
    lot="lot_id",
)
_OPEN = HoldState.OPEN.value


def hold_row(
    hold: PlainHold, feature: str, *, now: int, lifetime_seconds: int
) -> tuple[object, ...]:
    """The row beside a plain hold, as ``holds.place`` would write it."""
    expires = now + lifetime_seconds * 1000
    return (hold.id, hold.customer_id, feature, hold.amount, 0, _OPEN, now, expires)
