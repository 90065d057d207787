"""A small app behind the bounded protocol, as a process whose memory can be watched.

Arguments: the listening socket's descriptor, and the protocol's limits as JSON.
"""

import asyncio
import json
import sys
from typing import Any

import uvicorn

from tallystick.http_limit import BoundedProtocol
from tallystick.kernel.log import configure_logging

calls = 0
gone = 0


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the path, the length of the body, the headers and the calls so far.

    At /gone it tells how many clients left before their bodies' end.
    """
    global calls, gone  # noqa: PLW0603  # the counts are the process's
    calls += 1
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    length, more = 0, True
    while more:
        message = await receive()
        gone += message["type"] == "http.disconnect"
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    words = f"{scope['path']} {length} {len(scope['headers'])} {calls}".encode()
    if scope["path"] == "/gone":
        words = str(gone).encode()
    if scope["path"] == "/large":
        words = bytes(20_000_000)
    if scope["path"] == "/stream":
        await stream(send)
        return
    size = (b"content-length", str(len(words)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [size]})
    await send({"type": "http.response.body", "body": words})


async def stream(send: Any) -> None:
    """An answer that takes two seconds."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(4):
        await asyncio.sleep(0.5)
        piece = {"type": "http.response.body", "body": b"piece", "more_body": True}
        await send(piece)
    await send({"type": "http.response.body", "body": b"end"})


if __name__ == "__main__":
    for name, limit in json.loads(sys.argv[2]).items():
        setattr(BoundedProtocol, name, limit)
    configure_logging()
    uvicorn.run(
        app,
        fd=int(sys.argv[1]),
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        lifespan="off",
    )
