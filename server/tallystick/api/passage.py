"""A request on its way through the app, and what the edge finds there.

The ASGI wrapper puts it into the scope, so that a mounted sub-app finds it too: there
``request.app`` is the sub-app, which knows nothing of us.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from fastapi import Request
from starlette.datastructures import State
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive

from tallystick.api.errors import NotStarted, WrapperMissing
from tallystick.api.heartbeat import Heartbeat
from tallystick.api.watching import Watchers
from tallystick.paywall.gate import Gate
from tallystick.paywall.verdicts import Serve

PASSAGE = "tallystick.passage"
Handler = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class Running:
    """What the app has at ``app.state.tallystick`` while its lifespan runs.

    ``handlers`` are the callables of the catalog's features by slug, and
    ``feature_context`` is what each of them gets first. ``watchers`` may read how we do.
    """

    gate: Gate
    settle_wait_ms: int
    handlers: dict[str, Handler] = field(default_factory=dict)
    feature_context: Any = None
    watchers: Watchers = field(default_factory=Watchers)


class BodyDigest:
    """The hash of a request's body, taken while somebody else reads it.

    FastAPI reads a form before any dependency runs, and nobody can read it twice.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._hash = sha256()
        self.is_complete = False

    async def __call__(self) -> Message:
        """The next message, as ASGI's ``receive`` gives it."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._hash.update(message.get("body", b""))
            self.is_complete = not message.get("more_body", False)
        return message

    def sha256(self) -> bytes:
        """32 bytes for everything that was read so far."""
        return self._hash.digest()


@dataclass(slots=True)
class Admission:
    """An admitted request on its way to an answer."""

    gate: Gate
    serve: Serve
    heartbeat: Heartbeat | None


@dataclass(slots=True)
class Passage:
    """One request between the wrapper and the route."""

    state: State
    body: BodyDigest
    admission: Admission | None = None


def passage_of(connection: HTTPConnection) -> Passage:
    """The request's passage; raises ``WrapperMissing``."""
    passage = connection.scope.get(PASSAGE)
    if not isinstance(passage, Passage):
        raise WrapperMissing
    return passage


def running_of(connection: HTTPConnection) -> Running:
    """What was built at the start; raises ``WrapperMissing`` or ``NotStarted``."""
    running = getattr(passage_of(connection).state, "tallystick", None)
    if not isinstance(running, Running):
        raise NotStarted
    return running


def gate_of(request: Request) -> Gate:
    """The gate that the app was built with."""
    return running_of(request).gate
