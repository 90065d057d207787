"""What a connection may cost before an app sees a whole request.

A head is bounded in bytes and in seconds, a body in seconds, and the connections in
their number; so are the requests that wait for their turn on one, and the time in which
a client reads nothing of its answer. What an app does with a request may last.

Uvicorn hands the parser whatever arrives and keeps every header, so a head of 50 MB
costs 50 MB. Here the parser gets small slices. Inside a head a slice ends with the
line, and inside a chunked body with an empty line, so that heads and messages end with
a slice and the bytes of a head are counted exactly.
"""

import asyncio
import resource
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tallystick.http_refusals import (
    BodyTooSlow,
    HeadersTooLarge,
    TooManyConnections,
    TooManyInARow,
    refusal,
)
from tallystick.kernel.errors import TallystickError
from tallystick.kernel.log import get_logger

_log = get_logger(__name__)

_SLICE_BYTES = 4 * 1024
_LINGER_SECONDS = 2.0
# Every chunked body ends with one (RFC 9112, 7.1); most have no other.
_EMPTY_LINE = b"\r\n\r\n"
_MOST_CONNECTIONS = 1000
_LIVENESS = b"/livez"
_CROWDED_SECONDS = 2.0
_SECONDS_BETWEEN_LINES = 60.0


def connections_allowed() -> int:
    """How many connections this process may have: 1,000, or what its files allow.

    A quarter of the files is for the database, the chain and the log.
    """
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return min(_MOST_CONNECTIONS, files * 3 // 4)


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol that answers 431 to a head beyond its limit.

    The connection ends with that answer, and no app sees the request. A head that is
    not complete in time ends the connection without one. A body that is not complete in
    time is answered 408, and who waits for it is told that the client has gone.

    A connection too many is answered 503, unless it asks whether the server lives. A
    request too many of those sent ahead is answered 429, after those before it.
    """

    head_limit_bytes: ClassVar[int] = 16 * 1024
    """Request line and headers with all their separators."""
    head_seconds: ClassVar[float] = 10.0
    """From the first byte, or from the connection's start, to the end of the head."""
    body_seconds: ClassVar[float] = 30.0
    """From the head's end to the body's, and a second more for each 64 KiB of it."""
    body_bytes_a_second: ClassVar[int] = 64 * 1024
    stall_seconds: ClassVar[float] = 30.0
    """How long a client may take nothing at all of what waits for it."""
    sent_ahead_limit: ClassVar[int] = 8
    """Requests that wait for the answer to an earlier one of their connection."""
    connection_limit: ClassVar[int] = _MOST_CONNECTIONS
    told_at: ClassVar[float] = float("-inf")
    """When the log was last told of a connection too many, by the loop's clock."""

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
        self._body_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._body_began = 0.0
        self._body_bytes = 0
        self._is_one_too_many = False
        self._error: TallystickError = HeadersTooLarge(
            f"the request line and the headers exceed {self.head_limit_bytes} bytes"
        )

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for a head, but not for ever."""
        super().connection_made(transport)
        self._is_one_too_many = self._is_crowded()
        if self._is_one_too_many:
            self._tell_of_crowd()
        if len(self.connections) > self._most_with_spare():
            # To wait for a head, or for the client to read, is a place it would take.
            self._error = TooManyConnections("the server has no place for another")
            transport.write(self._refusal())
            transport.close()
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        self._stop_body_timer()
        self._stop_stall_timer()
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
        if not self._is_in_head and not self._is_over() and self._body_timer is None:
            self._start_body_timer()

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
        self._body_bytes = 0
        self._is_one_too_many = self._is_one_too_many and self._is_crowded()
        is_liveness = self.url.partition(b"?")[0] == _LIVENESS
        if self._is_one_too_many and not is_liveness:
            self._refuse_for(TooManyConnections("the server has no place for another"))
            return
        if len(self.pipeline) >= self.sent_ahead_limit:
            waiting = f"{self.sent_ahead_limit} requests wait for their turn already"
            self._refuse_for(TooManyInARow(waiting))
            return
        super().on_headers_complete()
        if self._is_one_too_many:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Count what is no head, and hand it on."""
        if self._is_refused:
            return
        self._body_bytes += len(body)
        self._body_bytes_left = max(0, self._body_bytes_left - len(body))
        self._body_bytes_seen += len(body)
        self._has_progressed = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next head."""
        self._is_in_head = True
        self._body_bytes_left = 0
        self._has_progressed = True
        self._stop_body_timer()
        if not self._is_refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what is queued; a refusal comes after the answers before it."""
        super().on_response_complete()
        if self._is_refused and not self._is_answering():
            self._answer_refusal()

    def pause_writing(self) -> None:
        """Let the app wait, and a client that reads nothing not for ever."""
        super().pause_writing()
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(
            self.stall_seconds, self._look_at_stall
        )

    def resume_writing(self) -> None:
        """Let the app go on."""
        self._stop_stall_timer()
        super().resume_writing()

    def _look_at_stall(self) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread >= self._unread_bytes:
            self.transport.abort()
            return
        self._unread_bytes = unread
        self._stall_timer = self.loop.call_later(
            self.stall_seconds, self._look_at_stall
        )

    def _stop_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

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

    def _refuse_for(self, error: TallystickError) -> None:
        self._error = error
        self._is_refused = True
        if not self._is_answering():
            self._answer_refusal()

    def _refusal(self) -> bytes:
        return refusal(self._error, self.server_state.default_headers)

    def _answer_refusal(self) -> None:
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self.transport.write(self._refusal())
        # To close with unread bytes resets the connection, and the client might never
        # see the answer. So say that it ends, and discard what still comes.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _start_timer(self) -> None:
        seconds = self.head_seconds
        if self._is_one_too_many:
            seconds = min(seconds, _CROWDED_SECONDS)
        self._timer = self.loop.call_later(seconds, self._give_up)

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

    def _start_body_timer(self) -> None:
        self._body_began = self.loop.time()
        self._body_timer = self.loop.call_later(self.body_seconds, self._look_at_body)

    def _stop_body_timer(self) -> None:
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None

    def _look_at_body(self) -> None:
        now = self.loop.time()
        if self._is_our_turn():
            self._body_began = now
        seconds = self.body_seconds + self._body_bytes / self.body_bytes_a_second
        left = self._body_began + seconds - now
        if left > 0:
            self._body_timer = self.loop.call_later(left, self._look_at_body)
        else:
            self._body_timer = None
            self._end_body()

    def _is_our_turn(self) -> bool:
        """Whether the client waits for us to read on, or to answer what came before."""
        is_asked = self.cycle.waiting_for_100_continue
        return self.flow.read_paused or bool(self.pipeline) or is_asked

    def _end_body(self) -> None:
        if self.transport.is_closing():
            return
        has_answer = self.cycle.response_started
        # As uvicorn does when a connection is lost.
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self._error = BodyTooSlow("the body was not complete in time")
        self._is_refused = True
        if has_answer:
            self.transport.close()
        else:
            self._answer_refusal()

    def _is_crowded(self) -> bool:
        return len(self.connections) > self.connection_limit

    def _most_with_spare(self) -> int:
        """A few more may say what they want: a probe must not take us for dead."""
        return self.connection_limit + max(8, self.connection_limit // 20)

    def _tell_of_crowd(self) -> None:
        now = self.loop.time()
        if now - BoundedProtocol.told_at >= _SECONDS_BETWEEN_LINES:
            BoundedProtocol.told_at = now
            _log.warning("too_many_connections", limit=self.connection_limit)
