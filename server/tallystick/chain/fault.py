"""A node that misbehaves to order: a JSON-RPC proxy in front of a real one.

Operators rehearse outages with it, and our tests need nothing else. It stands on
asyncio streams, because a lost reply is a connection cut in the middle, which no web
server offers. It listens on loopback only.

    async with FaultProxy("http://127.0.0.1:8545") as proxy:
        proxy.inject("eth_sendRawTransaction", DropAfter(times=1))
        ...
"""

import asyncio
import contextlib
import json
import random
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientError, ClientSession, ClientTimeout

from tallystick.chain.faults import (
    Answer,
    Cut,
    Delay,
    DropAfter,
    DropBefore,
    ErrorAnswer,
    Fault,
    Rewrite,
    Stale,
)

__all__ = [
    "Delay",
    "DropAfter",
    "DropBefore",
    "ErrorAnswer",
    "Fault",
    "FaultProxy",
    "Rewrite",
    "Stale",
]

ANY = "*"
_BODY_LIMIT_BYTES = 16 * 1024 * 1024
_UPSTREAM_SECONDS = 30


@dataclass(slots=True)
class _Injected:
    """A fault in force for a method, and how often it will still strike."""

    method: str
    fault: Fault
    left: int | None


class FaultProxy:
    """Passes JSON-RPC through to ``upstream``, except where a fault was injected.

    ``seen`` counts the requests that arrived, by method; ``seed`` makes faults with a
    probability repeatable. The port stays the same while it is down.
    """

    def __init__(self, upstream: str, *, seed: int = 0) -> None:
        self.upstream = upstream
        self.seen: Counter[str] = Counter()
        self._chance = random.Random(seed)
        self._injected: list[_Injected] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._session: ClientSession | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._session = ClientSession(timeout=ClientTimeout(total=_UPSTREAM_SECONDS))
        await self.up()

    async def stop(self) -> None:
        """Stop listening and let go of everything."""
        await self.down()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def down(self) -> None:
        """Refuse connections and cut those that are open, as a dead node does."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks)

    async def up(self) -> None:
        """Accept connections (again)."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self._port
            )
            self._port = self._server.sockets[0].getsockname()[1]

    def inject(self, method: str, fault: Fault) -> None:
        """From now on the fault strikes requests of the method (``ANY``: of every one).

        Of several faults for a request the one injected first strikes.
        """
        self._injected.append(_Injected(method, fault, fault.times))

    def heal(self, method: str | None = None) -> None:
        """Withdraw the faults of a method, or all."""
        self._injected = [
            item for item in self._injected if method not in (None, item.method)
        ]

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served in a task"
        self._tasks.add(task)
        try:
            while True:
                writer.write(_response(await self._answer(await _body(reader))))
                await writer.drain()
        except (Cut, asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            # Cancelled only by ``down``; the streams log a task that ends so.
            writer.transport.abort()
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer(self, body: bytes) -> bytes:
        asked = json.loads(body)
        if isinstance(asked, list):
            return json.dumps([await self._answer_one(item) for item in asked]).encode()
        return json.dumps(await self._answer_one(asked)).encode()

    async def _answer_one(self, request: dict[str, Any]) -> Answer:
        self.seen[request["method"]] += 1
        fault = self._strike(request["method"])
        if fault is None:
            return await self._forward(request)
        answer = await fault.apply(request, self._forward)
        return {"jsonrpc": "2.0", **answer, "id": request.get("id")}

    def _strike(self, method: str) -> Fault | None:
        for item in self._injected:
            fits = item.method in (ANY, method) and item.left != 0
            if fits and self._chance.random() < item.fault.probability:
                item.left = None if item.left is None else item.left - 1
                return item.fault
        return None

    async def _forward(self, request: dict[str, Any]) -> Answer:
        assert self._session is not None, "the proxy is not started"
        try:
            async with self._session.post(self.upstream, json=request) as response:
                answer: Answer = json.loads(await response.read())
                return answer
        except (ClientError, TimeoutError, ValueError) as error:
            raise Cut from error


async def _body(reader: asyncio.StreamReader) -> bytes:
    """The body of the next HTTP request, which must say its length."""
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "content-length" and int(value) <= _BODY_LIMIT_BYTES:
            return await reader.readexactly(int(value))
    raise Cut


def _response(body: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
