"""When a limit's window ends: at the calendar's next hour, day or month in UTC."""

from datetime import UTC, datetime

from tallystick.credits.models import LimitPeriod
from tallystick.kernel.clock import ms_of

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


def window_end_ms(period: LimitPeriod, now: int) -> int | None:
    """The first millisecond after the window that ``now`` is in; ``None`` for never."""
    match period:
        case LimitPeriod.TOTAL:
            return None
        case LimitPeriod.HOUR:
            return (now // _HOUR_MS + 1) * _HOUR_MS
        case LimitPeriod.DAY:
            return (now // _DAY_MS + 1) * _DAY_MS
        case LimitPeriod.MONTH:
            return _next_month_ms(now)


def _next_month_ms(now: int) -> int:
    today = datetime.fromtimestamp(now // 1000, UTC)
    years, month = divmod(today.month, 12)
    return ms_of(datetime(today.year + years, month + 1, 1, tzinfo=UTC))
