"""A request's head is bounded in bytes and in seconds, before anything parses it.

Uvicorn hands the parser whatever arrives and keeps every header, so a head of 50 MB
costs 50 MB. Here the parser gets small slices. Inside a head a slice ends with the
line, and inside a chunked body with an empty line, so that heads and messages end with
a slice and the bytes of a head are counted exactly.
"""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tallystick.kernel import json
from tallystick.kernel.errors import BadInput

_SLICE_BYTES = 4 * 1024
_LINGER_SECONDS = 2.0
# Every chunked body ends with one (RFC 9112, 7.1); most have no other.
_EMPTY_LINE = b"\r\n\r\n"


class HeadersTooLarge(BadInput):
    """The request line and the headers are larger than any request needs."""

    status = 431
    title = "The headers are too large"
    next_step = "Send fewer or shorter headers; 16 KiB in all are read."


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol that answers 431 to a head beyond its limit.

    The connection ends with that answer, and no app sees the request. A head that is
    not complete in time ends the connection without one.
    """

    head_limit_bytes: ClassVar[int] = 16 * 1024
    """Request line and headers with all their separators."""
    head_seconds: ClassVar[float] = 10.0
    """From the first byte, or from the connection's start, to the end of the head."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_in_head = True
        self._is_refused = False
        # Bytes fed since the parser last ended a head or a message, or gave a body.
        self._pending_bytes = 0
        self._body_bytes_left = 0
        self._body_bytes_seen = 0
        self._has_progressed = False
        self._has_begun = False
        # What was fed last of a chunked body: its empty line may come in pieces.
        self._tail = b""
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for a head, but not for ever."""
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser slice by slice, for as long as the limit is kept."""
        start = 0
        while start < len(data) and not self._is_over():
            piece = data[start : self._end_of_slice(data, start)]
            start += len(piece)
            if self._pending_bytes + len(piece) > self.head_limit_bytes:
                self._refuse()
            else:
                self._feed(piece)

    def on_message_begin(self) -> None:
        """Note that this slice holds the begin of a head."""
        self._has_begun = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is dropped, because the app reads its headers."""
        if not self._is_in_head:
            return
        if name.lower() == b"content-length" and value.isdigit():
            self._body_bytes_left = int(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the app begin."""
        self._is_in_head = False
        self._has_progressed = True
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what is no head, and hand it on."""
        self._body_bytes_left = max(0, self._body_bytes_left - len(body))
        self._body_bytes_seen += len(body)
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next head."""
        self._is_in_head = True
        self._body_bytes_left = 0
        self._has_progressed = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what is queued; a refusal comes after the answers before it."""
        super().on_response_complete()
        if self._is_refused and not self._is_answering():
            self._answer_refusal()

    def _is_over(self) -> bool:
        is_handed_on = self.transport.get_protocol() is not self
        return self._is_refused or is_handed_on or self.transport.is_closing()

    def _is_answering(self) -> bool:
        # The cycle is the last request's, and requests are answered in their order.
        return self.cycle is not None and not self.cycle.response_complete

    def _end_of_slice(self, data: bytes, start: int) -> int:
        end = min(start + _SLICE_BYTES, len(data))
        if self._is_in_head:
            return data.find(b"\n", start, end) + 1 or end
        # Either way the next head begins with a slice.
        if self._body_bytes_left:
            return min(end, start + self._body_bytes_left)
        place = (self._tail + data[start:end]).find(_EMPTY_LINE)
        return end if place < 0 else start + place + 4 - len(self._tail)

    def _feed(self, piece: bytes) -> None:
        was_in_head = self._is_in_head
        self._body_bytes_seen = 0
        self._has_progressed = self._has_begun = False
        super().data_received(piece)
        self._tail = b"" if was_in_head else (self._tail + piece)[-3:]
        if not self._has_progressed:
            self._pending_bytes += len(piece)
        elif was_in_head or (self._is_in_head and not self._has_begun):
            self._pending_bytes = 0
        else:
            self._pending_bytes = len(piece) - self._body_bytes_seen
        if was_in_head and self._pending_bytes and self._timer is None:
            self._start_timer()

    def _refuse(self) -> None:
        self._is_refused = True
        self._stop_timer()
        if not self._is_in_head:
            # Endless trailers or chunk extensions: the app has the request already.
            self.transport.close()
        elif not self._is_answering():
            self._answer_refusal()

    def _answer_refusal(self) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self.transport.write(_refusal(self.server_state.default_headers))
        # To close with unread bytes resets the connection, and the client might never
        # see the answer. So say that it ends, and discard what still comes.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        # While a request is answered, it is we who may not be reading.
        if self._is_answering():
            self._start_timer()
        else:
            self.transport.close()


def _refusal(more_headers: list[tuple[bytes, bytes]]) -> bytes:
    error = HeadersTooLarge(
        f"the request line and the headers exceed {BoundedProtocol.head_limit_bytes}"
        " bytes"
    )
    document = {
        "type": f"/errors#{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "next_step": error.next_step,
    }
    body = json.dumps(document)
    headers = [
        *more_headers,
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store, private"),
        (b"vary", b"*"),
        (b"connection", b"close"),
    ]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[error.status] + lines + b"\r\n" + body
