"""What the judge of ``payments`` reads in the notes.

An event's first name says what it is; ``payers``, ``attackers`` and ``chaos`` list them.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from soak import acknowledgements

Event = dict[str, Any]


class Told:
    """Everything that people meant, did and were told, in the order of time."""

    def __init__(self, path: Path) -> None:
        self._events: dict[str, list[Event]] = defaultdict(list)
        for event in acknowledgements.read(path):
            self._events[next(iter(event))].append(event)

    def all(self, kind: str) -> list[Event]:
        """The events of a kind."""
        return self._events[kind]

    def of(self, kind: str) -> dict[str, list[Event]]:
        """The same by what they are about: the name of what somebody meant."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in self._events[kind]:
            found[event[kind]].append(event)
        return found

    @property
    def late(self) -> list[str]:
        """Honest payments that were still open long after a node's return."""
        honest = {event["nonce"].lower() for event in self.all("signed")}
        return sorted(
            {nonce for event in self.all("after") for nonce in event["open"]} & honest
        )

    @property
    def broken(self) -> list[str]:
        """What must not be told to anybody, or never ended."""
        fell = [one for one in self.all("pending") if one["status"] == 500]
        events = [*self.all("unspent"), *self.all("unfinished"), *fell]
        return [str(event) for event in events]
