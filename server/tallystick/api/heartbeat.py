"""A slow handler keeps its hold alive."""

import asyncio

from tallystick.credits.errors import HoldAlreadySettled
from tallystick.kernel.log import get_logger
from tallystick.paywall.finish import heartbeat
from tallystick.paywall.gate import Gate
from tallystick.paywall.verdicts import Serve

_log = get_logger(__name__)
_BEATS_PER_LIFETIME = 3


class Heartbeat:
    """Extends a hold again and again until it is stopped, or the hold has lapsed."""

    def __init__(self, gate: Gate, serve: Serve) -> None:
        self._gate = gate
        self._serve = serve
        self._is_stopped = False
        self._loop = asyncio.get_running_loop()
        self._timer = self._next()

    def stop(self) -> None:
        """No further beat. One that is under way ends by itself.

        It is not cancelled: that would break off a transaction in its middle.
        """
        self._is_stopped = True
        self._timer.cancel()

    def _next(self) -> asyncio.TimerHandle:
        seconds = self._gate.hold_seconds / _BEATS_PER_LIFETIME
        return self._loop.call_later(seconds, self._start)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._beat())

    async def _beat(self) -> None:
        try:
            await heartbeat(self._gate, self._serve)
        except HoldAlreadySettled as error:
            if not self._is_stopped:
                _log.warning("hold_not_extended", code=error.code)
            return
        except Exception as error:  # noqa: BLE001  # the next beat may do better
            _log.warning("hold_not_extended", kind=type(error).__name__)
        if not self._is_stopped:
            self._timer = self._next()
