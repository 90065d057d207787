"""What the protocol itself answers, before or instead of any app."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tallystick.kernel import json
from tallystick.kernel.errors import BadInput, TallystickError, Unavailable


class HeadersTooLarge(BadInput):
    """The request line and the headers are larger than any request needs."""

    status = 431
    title = "The headers are too large"
    next_step = "Send fewer or shorter headers; 16 KiB in all are read."


class BodyTooSlow(BadInput):
    """The body did not come in time; nothing was done."""

    status = 408
    title = "The body came too slowly"
    next_step = "Send the whole request again, its body at once; nothing was charged."


class TooManyConnections(Unavailable):
    """The server has as many connections as it can serve; nothing was done."""

    title = "Too many connections"
    next_step = "Try again in a few seconds, and keep fewer connections open."


class TooManyInARow(TallystickError):
    """More requests were sent ahead on one connection than wait for their turn."""

    status = 429
    title = "Too many requests in a row"
    next_step = "Send the next request when the last one is answered."
    retry_after_seconds = 1


def refusal(error: TallystickError, more_headers: list[tuple[bytes, bytes]]) -> bytes:
    """The whole answer for an error, after which the connection ends."""
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
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", str(error.retry_after_seconds).encode()))
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[error.status] + lines + b"\r\n" + body
