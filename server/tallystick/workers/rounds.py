"""Rounds of work, again and again, none broken off in the middle of a transaction."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tallystick.kernel.errors import Unavailable
from tallystick.kernel.log import get_logger

T = TypeVar("T")

_log = get_logger(__name__)
_GRACE_SECONDS = 3.0


async def repeat(
    name: str, work: Callable[[], Awaitable[object]], *, every_seconds: float
) -> None:
    """Do the work again and again, whatever happens to one round."""
    while True:
        try:
            await whole(work())
        except Unavailable as error:
            _log.warning(
                "round_failed", worker=name, code=error.code, **error.for_operator
            )
        except Exception:  # noqa: BLE001  # the next round may do better
            _log.exception("round_broke", worker=name)
        await asyncio.sleep(every_seconds)


async def whole(work: Awaitable[T], *, grace_seconds: float = _GRACE_SECONDS) -> T:
    """Do the work; whoever cancels it waits until it is done, up to a grace in seconds.

    A server that is told to stop would otherwise break off transactions. They would be
    rolled back, but the driver complains loudly of it.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=grace_seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
