"""A small app behind the bounded protocol, as a process whose memory can be watched.

Arguments: the listening socket's descriptor, and the seconds that a head may take.
"""

import asyncio
import sys
from typing import Any

import uvicorn

from tallystick.http_limit import BoundedProtocol

calls = 0


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path, the length of the body, the headers and the calls so far."""
    global calls  # noqa: PLW0603  # the count is the process's
    calls += 1
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    words = f"{scope['path']} {length} {len(scope['headers'])} {calls}".encode()
    size = (b"content-length", str(len(words)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [size]})
    await send({"type": "http.response.body", "body": words})


if __name__ == "__main__":
    BoundedProtocol.head_seconds = float(sys.argv[2])
    uvicorn.run(
        app,
        fd=int(sys.argv[1]),
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
    )
