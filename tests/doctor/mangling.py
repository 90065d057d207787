"""A proxy on loopback that changes answers on their way, as bad proxies do."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_OF_THE_CONNECTION = {"content-length", "connection", "transfer-encoding", "date"}


@dataclass(frozen=True)
class Mangling:
    """What is changed: a header, the status, or a member of a version's offer.

    ``path`` leads to the member through names and numbers.
    """

    drop: str | None = None
    header: str | None = None
    value: str = ""
    status: int | None = None
    path: str | None = None
    to: Any = None
    version: int = 0


def _replaced(document: Any, path: str, to: Any) -> None:
    *parents, last = path.split(".")
    place = document
    for one in parents:
        place = place[int(one) if one.isdigit() else one]
    place[last] = to


def _mangle(answer: httpx.Response, how: Mangling) -> Response:
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in _OF_THE_CONNECTION and name != how.drop
    }
    body, is_402 = answer.content, answer.status_code == 402
    if is_402 and how.version == 2 and how.path:
        offer = json.loads(b64decode(headers["payment-required"]))
        _replaced(offer, how.path, how.to)
        headers["payment-required"] = b64encode(json.dumps(offer).encode()).decode()
    if is_402 and how.version == 1 and how.path:
        document = json.loads(body)
        _replaced(document, how.path, how.to)
        body = json.dumps(document).encode()
    if is_402 and how.header:
        headers[how.header] = how.value
    status = answer.status_code
    if how.status is not None and (is_402 or 300 <= how.status < 400):
        status = how.status
    return Response(body, status, headers)


@dataclass(frozen=True)
class Terminated:
    """TLS ends at the proxy, on this port and with this certificate (PEM files).

    As proxies do, it takes ``prefix`` off the path and says who asked, in headers that
    nobody has to believe.
    """

    port: int
    certificate: Path
    key: Path
    prefix: str = ""


@asynccontextmanager
async def mangled(
    upstream: str, how: Mangling | None = None, tls: Terminated | None = None
) -> AsyncIterator[str]:
    """The address of such a proxy before ``upstream``."""
    async with httpx.AsyncClient(base_url=upstream, timeout=30) as client:

        async def forward(request: Request) -> Response:
            url = request.scope["raw_path"].decode()
            if tls is not None:
                url = url.removeprefix(tls.prefix)
            if request.url.query:
                url += f"?{request.url.query}"
            headers = {
                name: value
                for name, value in request.headers.items()
                if name not in {"host", "content-length"}
            }
            answer = await client.request(
                request.method, url, headers=headers, content=await request.body()
            )
            return _mangle(answer, how or Mangling())

        app = Starlette(routes=[Route("/{path:path}", forward, methods=_METHODS)])
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                port=tls.port if tls else 0,
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.key if tls else None,
            )
        )
        task = asyncio.create_task(server.serve())
        while not server.started:
            assert not task.done(), "the proxy did not start"
            await asyncio.sleep(0.01)
        try:
            port = server.servers[0].sockets[0].getsockname()[1]
            scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
            yield f"{scheme}://{host}:{port}{tls.prefix if tls else ''}"
        finally:
            server.should_exit = True
            await task
