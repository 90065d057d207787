"""The nodes of a chain: whom to ask first, and who has fallen behind the others.

The first in the list is preferred. Who gave no answer, or lags, rests for a while and is
then asked again; while all rest, they are asked all the same, so none is given up.
"""

import time
from collections.abc import Iterable, Sequence

from web3 import AsyncWeb3

from tallystick.chain.endpoint import Endpoint

BEHIND_BLOCKS = 8
"""A node that is further behind another one lags; blocks take seconds to go round."""
_HEAD_SECONDS = 60.0
"""How long a head counts that a node has told: by then others have got so far, or the
chain was taken back, and whoever answers is the best there is."""
_RECENT_SECONDS = 10.0
_SHORTEST_REST_SECONDS = 2.0
_LONGEST_REST_SECONDS = 60.0


class Node:
    """One node: whether it has named its chain, and when and how it answered last.

    Times are monotonic seconds. ``head`` is the height of its newest block, as it told
    at ``head_at``.
    """

    def __init__(self, url: str) -> None:
        self.endpoint = Endpoint(url)
        # No middleware: it would ask further questions (names, gas, chain id) unasked.
        self.web3 = AsyncWeb3(self.endpoint, middleware=[])
        self.is_proven = False
        self.is_distrusted = False
        self.answered_at = time.monotonic()
        self.head = -1
        self.head_at = float("-inf")
        self._rests_until = float("-inf")
        self._trial_until = float("-inf")
        self._rest_seconds = 0.0

    @property
    def spared_until(self) -> float:
        """Until when the others are asked before it."""
        return max(self._rests_until, self._trial_until)

    @property
    def was_left(self) -> bool:
        """Whether it has not answered since it was left."""
        return self._rest_seconds > 0

    def answered(self) -> None:
        self.answered_at = time.monotonic()
        self._rests_until = self._trial_until = float("-inf")
        self._rest_seconds = 0.0

    def tell_head(self, number: int) -> None:
        self.head, self.head_at = number, time.monotonic()

    def rest(self) -> bool:
        """Be asked after the others; whether that is news. Each time for longer."""
        if self._rests_until > time.monotonic():
            return False
        longer = max(2 * self._rest_seconds, _SHORTEST_REST_SECONDS)
        self._rest_seconds = min(longer, _LONGEST_REST_SECONDS)
        self._rests_until = time.monotonic() + self._rest_seconds
        return True

    def begin_trial(self, seconds: float) -> None:
        """Of those who ask at the same time only one waits for who may still be dead."""
        if self.was_left:
            self._trial_until = time.monotonic() + seconds

    def must_tell_head(self, peers: Iterable["Node"]) -> bool:
        """Whether others have told how far the chain is, and this one not of late."""
        is_recent = time.monotonic() - self.head_at < _RECENT_SECONDS
        return (self.was_left or not is_recent) and self._seen_by(peers) >= 0

    def behind(self, peers: Iterable["Node"]) -> int:
        """How many blocks it is behind the others; 0 within what is usual."""
        behind = self._seen_by(peers) - self.head
        return behind if behind > BEHIND_BLOCKS else 0

    def _seen_by(self, peers: Iterable["Node"]) -> int:
        since = time.monotonic() - _HEAD_SECONDS
        seen = (one.head for one in peers if one is not self and one.head_at > since)
        return max(seen, default=-1)


def in_turn(nodes: Sequence[Node]) -> list[Node]:
    """Those that do not rest, as they are listed; then whose rest is over first.

    And last of all who has shown another chain than ours.
    """
    now = time.monotonic()
    return sorted(
        nodes, key=lambda one: (one.is_distrusted, max(one.spared_until, now))
    )
