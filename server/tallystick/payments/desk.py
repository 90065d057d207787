"""The facilitator that settles for us: what is known of it, and what it was asked.

Kept in memory, by each process for itself; nothing of it is a record.
"""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from tallystick.kernel.log import get_logger
from tallystick.x402.facilitator import FacilitatorClient, FacilitatorSilent
from tallystick.x402.wire import Version

_log = get_logger(__name__)
_MOST_AT_ONCE = 32
_WELL_SECONDS = 60.0
"""How long an answer of ``GET /supported`` is believed; without one it is asked again
at each round."""
_LEAST_FAILURES = 2
"""In a row: one lost answer is no outage."""


@dataclass(slots=True)
class Desk:
    """Where settlements are asked for.

    ``falls_back`` lets a relayer settle what the facilitator has not settled within
    ``patience_seconds``; without, it is asked again then, and later ever less often.
    ``trouble`` says in words why it is not relied upon; None when it is.
    """

    client: FacilitatorClient
    network: str
    resource_url: str
    falls_back: bool = False
    patience_seconds: float = 20.0
    version: Version | None = None
    signers: frozenset[bytes] = frozenset()
    trouble: str | None = "the facilitator has not answered since the start"
    _failures: int = 0
    _known_at: float | None = None
    _asked: "set[asyncio.Task[None]]" = field(default_factory=set)

    @property
    def has_room(self) -> bool:
        """Whether one more request may be under way: silent ones must not pile up."""
        return len(self._asked) < _MOST_AT_ONCE

    def begin(self, asking: Coroutine[Any, Any, None]) -> None:
        """Ask without anybody waiting: others must be settled meanwhile."""
        task = asyncio.create_task(asking)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)

    async def tend(self) -> None:
        """Learn what it settles and who submits for it, if that is not known lately."""
        if self._is_known and not self._failures:
            return
        try:
            found = await self.client.supported(self.network)
        except FacilitatorSilent as error:
            self.failed(str(error))
            return
        self._known_at = time.monotonic()
        self._failures = 0
        self.version = found.version_for(self.network)
        self.signers = found.signers
        self._tell(
            None
            if self.version
            else f"the facilitator does not settle exact payments on {self.network}"
        )

    @property
    def _is_known(self) -> bool:
        known_at = self._known_at
        return known_at is not None and time.monotonic() - known_at < _WELL_SECONDS

    def failed(self, why: str) -> None:
        """It could not be reached; often enough, it is not relied upon."""
        self._failures += 1
        if self._failures >= _LEAST_FAILURES or self._known_at is None:
            self._tell(f"the facilitator gives {why}")

    def _tell(self, trouble: str | None) -> None:
        if trouble == self.trouble:
            return
        self.trouble = trouble
        if trouble is None:
            _log.info("facilitator_ready", facilitator=self.client.host)
        else:
            _log.error(
                "facilitator_trouble", facilitator=self.client.host, detail=trouble
            )

    async def close(self) -> None:
        """Break off what is under way: what was asked is asked again some day."""
        for task in tuple(self._asked):
            task.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        await self.client.close()
