"""The ASGI wrapper that charges for what ``paid`` has admitted.

It holds the start of an answer back until its charge is durable. A dependency alone
would charge too early for streams, and too late for headers.

    a whole answer, its length told, at most 64 KiB ──▶ charged when it is complete
    a stream, or more                               ──▶ charged before its first byte
    status 400 and above, an exception before that  ──▶ released, nothing is charged
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.datastructures import State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.api.answers import ROOT, header_pairs, problem, raw_headers, root_of
from tallystick.api.errors import CaptureFailed
from tallystick.api.passage import PASSAGE, Admission, BodyDigest, Passage, Running
from tallystick.kernel.log import get_logger
from tallystick.paywall.answer import Answer
from tallystick.paywall.answers import LARGEST_BODY_BYTES
from tallystick.paywall.finish import finish_failed, finish_served, is_answered
from tallystick.paywall.receipt import receipt_headers

_log = get_logger(__name__)
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_FILES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})


class PaidResponses:
    """The wrapper; ``install`` adds it once. ``state`` is that of the whole app."""

    def __init__(self, app: ASGIApp, state: State) -> None:
        self.app = app
        self._state = state
        self._work: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; settle its hold when its answer begins."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = BodyDigest(receive)
        passage = Passage(self._state, body)
        scope[PASSAGE] = passage
        scope["headers"] = _trimmed(scope["headers"])
        scope[ROOT] = self._public_path() + scope.get("root_path", "")
        outgoing = _Outgoing(passage, send, self._work, root_of(scope))
        try:
            await self.app(scope, body, outgoing)
        except BaseException:
            await outgoing.abandon()
            raise
        await outgoing.end()

    def _public_path(self) -> str:
        running = getattr(self._state, "tallystick", None)
        return running.gate.public_path if isinstance(running, Running) else ""


def _trimmed(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Blanks around a value are none of it (RFC 9110, 5.5); a server may leave them."""
    return [(name, value.strip(b" \t")) for name, value in headers]


class _Outgoing:
    """The answer on its way out."""

    def __init__(
        self,
        passage: Passage,
        send: Send,
        work: "set[asyncio.Task[Any]]",
        root: str,
    ) -> None:
        self._passage = passage
        self._send = send
        self._work = work
        self._root = root
        self._start: Message | None = None
        self._held: list[Message] = []
        self._size = 0
        self._is_settled = False
        self._is_refused = False

    async def __call__(self, message: Message) -> None:
        """Take a message of the answer, as ASGI's ``send`` does."""
        if self._is_refused:
            return
        admission = self._passage.admission
        if admission is None or self._is_settled:
            await self._send(message)
        elif message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            await self._hold_back(admission, message)
        elif message["type"] in _FILES:
            self._held.append(message)
            await self._settle(admission, is_whole=False)
        else:
            await self._send(message)

    async def end(self) -> None:
        """The app has returned. What looked like an empty stream was one."""
        admission = self._passage.admission
        if admission is None or self._is_settled:
            return
        if self._held:
            await self._settle(admission, is_whole=True)
        else:
            await self.abandon()

    async def abandon(self) -> None:
        """No answer came, or an exception instead of one; nothing is charged."""
        admission = self._passage.admission
        if admission is None or self._is_settled:
            return
        self._is_settled = True
        _stop(admission)
        await self._undisturbed(_release(admission))

    async def _hold_back(self, admission: Admission, message: Message) -> None:
        self._held.append(message)
        self._size += len(message.get("body", b""))
        if message.get("more_body", False):
            if self._size > self._patience():
                await self._settle(admission, is_whole=False)
        elif self._size or self._is_told_empty():
            await self._settle(admission, is_whole=True)
        # Otherwise it is a stream without a byte. So looks, behind somebody else's
        # middleware, a stream that broke before its first one; ``end`` will know.

    def _patience(self) -> int:
        """Bytes that wait for the rest of the answer; 0 for a stream."""
        length = self._header(b"content-length")
        if length.isdigit() and int(length) <= LARGEST_BODY_BYTES:
            return LARGEST_BODY_BYTES
        return 0

    def _is_told_empty(self) -> bool:
        assert self._start is not None, "an answer starts before its body"
        is_bodiless = self._start["status"] in _WITHOUT_BODY
        return is_bodiless or self._header(b"content-length") == b"0"

    def _header(self, name: bytes) -> bytes:
        assert self._start is not None, "an answer starts before its body"
        for one, value in self._start.get("headers", ()):
            if one.lower() == name:
                return bytes(value)
        return b""

    async def _settle(self, admission: Admission, *, is_whole: bool) -> None:
        assert self._start is not None, "an answer starts before its body"
        self._is_settled = True
        _stop(admission)
        answer = self._answer() if is_whole else None
        status = self._start["status"]
        receipt = await self._undisturbed(_finish(admission, status, answer))
        if receipt is None:
            self._is_refused = True
            await self._refuse(self._root + admission.gate.api_prefix)
        else:
            await self._pass_on(receipt)

    def _answer(self) -> Answer:
        assert self._start is not None
        headers = header_pairs(self._start.get("headers", ()))
        body = b"".join(message.get("body", b"") for message in self._held)
        return Answer(self._start["status"], headers, body)

    async def _undisturbed(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Finish the work even when this request is cancelled in its middle."""
        task = asyncio.ensure_future(work)
        # The loop keeps no task alive by itself.
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return await asyncio.shield(task)

    async def _pass_on(self, receipt: Mapping[str, str]) -> None:
        assert self._start is not None
        ours = raw_headers(receipt)
        names = {name for name, _ in ours}
        kept = [
            (name, value)
            for name, value in self._start.get("headers", ())
            if name.lower() not in names
        ]
        await self._send({**self._start, "headers": [*kept, *ours]})
        for message in self._held:
            await self._send(message)
        self._held.clear()

    async def _refuse(self, api_prefix: str) -> None:
        answer = problem(CaptureFailed("the call could not be charged"), api_prefix)
        start = {"status": answer.status_code, "headers": answer.raw_headers}
        await self._send({"type": "http.response.start", **start})
        await self._send({"type": "http.response.body", "body": answer.body})


def _stop(admission: Admission) -> None:
    if admission.heartbeat is not None:
        admission.heartbeat.stop()


async def _finish(
    admission: Admission, status: int, answer: Answer | None
) -> Mapping[str, str] | None:
    """The receipt's headers; None when what was served could not be charged."""
    gate, serve = admission.gate, admission.serve
    if not is_answered(status):
        return await _release(admission)
    try:
        charged = await finish_served(gate, serve, answer)
    except Exception as error:  # noqa: BLE001  # uncharged is unserved, whatever failed
        _log.error("capture_failed", kind=type(error).__name__)
        await _release(admission)
        return None
    return receipt_headers(serve, charged)


async def _release(admission: Admission) -> Mapping[str, str]:
    gate, serve = admission.gate, admission.serve
    try:
        charged = await finish_failed(gate, serve)
    except Exception as error:  # noqa: BLE001  # the hold lapses by itself
        _log.error("release_failed", kind=type(error).__name__)
        return {}
    return receipt_headers(serve, charged)
