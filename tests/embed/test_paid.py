"""What a seller's own route may do, and what is charged for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fastapi import (
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
)
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from tallystick import paid
from tests.embed.answers import REPORT, charged
from tests.embed.conftest import OpenShop, Shop


async def settled(shop: Shop, posted: str) -> None:
    """The customer comes to have so much and nothing held."""
    for _ in range(200):
        if await shop.credits() == (Decimal(posted), 0):
            return
        await asyncio.sleep(0.01)
    assert await shop.credits() == (Decimal(posted), 0)


async def test_an_answer_is_charged_and_says_so_once(open_shop: OpenShop) -> None:
    app = FastAPI()

    @app.get("/report", dependencies=REPORT)
    async def report() -> JSONResponse:
        own = {"Cache-Control": "public, max-age=60", "Vary": "Accept"}
        return JSONResponse({"fine": True}, headers=own | {"Credits-Charged": "0"})

    shop = await open_shop(app)
    answer = await shop.http.get("/report")
    assert (answer.status_code, answer.json()) == (200, {"fine": True})
    assert charged(answer) == ("1", "9")
    for name in ("cache-control", "vary", "credits-charged", "content-length"):
        assert len(answer.headers.get_list(name)) == 1
    assert answer.headers["cache-control"] == "no-store, private"
    assert await shop.credits() == (9, 0)


async def test_without_credits_the_402_comes_before_the_handler(
    open_shop: OpenShop,
) -> None:
    app, runs = FastAPI(), []

    @app.get("/report", dependencies=REPORT)
    async def report() -> None:
        runs.append(1)

    shop = await open_shop(app)
    answer = await shop.anybody.get("/report")
    assert answer.status_code == 402
    assert answer.json()["code"] == "payment_required"
    assert "payment-required" in answer.headers
    assert answer.headers["cache-control"] == "no-store, private"
    assert runs == []


async def test_what_is_free_keeps_its_own_headers(open_shop: OpenShop) -> None:
    app = FastAPI()

    @app.get("/sample", dependencies=[Depends(paid("sample"))])
    async def sample() -> JSONResponse:
        return JSONResponse({}, headers={"Cache-Control": "max-age=60"})

    shop = await open_shop(app)
    answer = await shop.anybody.get("/sample")
    assert answer.status_code == 200
    assert answer.headers.get_list("cache-control") == ["max-age=60"]
    assert answer.headers["credits-charged"] == "0"


async def test_a_stream_is_charged_before_its_first_byte(open_shop: OpenShop) -> None:
    app, seen = FastAPI(), []
    go_on = asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        seen.append(await shop.credits())
        yield b""
        yield b"one"
        await go_on.wait()
        yield b"two"

    @app.get("/stream", dependencies=REPORT)
    async def stream() -> StreamingResponse:
        return StreamingResponse(parts())

    shop = await open_shop(app)
    async with shop.http.stream("GET", "/stream") as answer:
        assert charged(answer) == ("1", "9")
        chunks = answer.aiter_bytes()
        assert await anext(chunks) == b"one"
        assert await shop.credits() == (9, 0)
        go_on.set()
        assert await anext(chunks) == b"two"
    assert seen == [(10, 1)], "the price is held while the handler prepares"


async def test_a_file_is_charged_and_whole(open_shop: OpenShop, tmp_path: Any) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(b"x" * 300_000)
    app = FastAPI()

    @app.get("/file", dependencies=REPORT)
    async def file() -> FileResponse:
        return FileResponse(path)

    shop = await open_shop(app)
    answer = await shop.http.get("/file")
    assert len(answer.content) == 300_000
    assert charged(answer) == ("1", "9")


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_is_charged(
    open_shop: OpenShop, status: int
) -> None:
    app = FastAPI()

    @app.get("/nothing", dependencies=REPORT)
    async def nothing() -> Response:
        return Response(status_code=status)

    shop = await open_shop(app)
    answer = await shop.http.get("/nothing")
    assert (answer.status_code, charged(answer)) == (status, ("1", "9"))


async def test_an_empty_stream_is_charged(open_shop: OpenShop) -> None:
    app = FastAPI()

    @app.get("/stream", dependencies=REPORT)
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter(()))

    shop = await open_shop(app)
    answer = await shop.http.get("/stream")
    assert (answer.status_code, answer.content) == (200, b"")
    assert charged(answer) == ("1", "9")


async def test_background_tasks_run_after_the_charged_answer(
    open_shop: OpenShop,
) -> None:
    app, order = FastAPI(), []
    go_on, done = asyncio.Event(), asyncio.Event()

    async def later() -> None:
        await go_on.wait()
        order.append(await shop.credits())
        done.set()
        raise RuntimeError("this background task always breaks")

    @app.get("/report", dependencies=REPORT)
    async def report(tasks: BackgroundTasks) -> dict[str, bool]:
        tasks.add_task(later)
        return {"fine": True}

    shop = await open_shop(app)
    answer = await shop.http.get("/report")
    assert charged(answer) == ("1", "9")
    go_on.set()
    await done.wait()
    await settled(shop, "9")
    assert order == [(9, 0)]


def _raise(error: Exception) -> Iterator[bytes]:
    raise error
    yield b""


@pytest.mark.parametrize(
    ("broken", "status"),
    [
        ("plain", 500),
        ("refused", 418),
        ("told", 503),
        ("stream", 500),
        ("stream after nothing", 500),
        ("sync", 500),
    ],
)
async def test_what_fails_before_its_first_byte_costs_nothing(
    open_shop: OpenShop, broken: str, status: int
) -> None:
    app = FastAPI()

    async def nothing_then_broken() -> AsyncIterator[bytes]:
        yield b""
        raise RuntimeError("no byte was sent")

    @app.get("/broken", dependencies=REPORT)
    async def handler() -> Response:
        if broken == "plain":
            raise RuntimeError("this handler always breaks")
        if broken == "refused":
            raise HTTPException(418, "I am a teapot")
        if broken == "told":
            return Response(b"later", 503)
        if broken == "stream":
            return StreamingResponse(_raise(RuntimeError("no byte was sent")))
        return StreamingResponse(nothing_then_broken())

    @app.get("/sync", dependencies=REPORT)
    def sync() -> None:
        raise RuntimeError("this handler always breaks")

    shop = await open_shop(app)
    answer = await shop.http.get("/sync" if broken == "sync" else "/broken")
    assert answer.status_code == status
    await settled(shop, "10")
    if broken in {"refused", "told"}:
        assert charged(answer) == ("0", "10")


async def test_what_breaks_after_its_first_byte_is_charged(open_shop: OpenShop) -> None:
    app = FastAPI()

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        raise RuntimeError("this stream always breaks")

    @app.get("/stream", dependencies=REPORT)
    async def stream() -> StreamingResponse:
        return StreamingResponse(parts())

    shop = await open_shop(app)
    with pytest.raises(httpx.RemoteProtocolError):
        await shop.http.get("/stream")
    await settled(shop, "9")


async def _ask_and_leave(shop: Shop, path: str, after: asyncio.Event) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", shop.server.settings.port
    )
    key = shop.http.headers["authorization"]
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n\r\n"
    writer.write(head.encode())
    await after.wait()
    writer.close()
    await writer.wait_closed()
    assert reader is not None


async def test_a_stream_whose_client_leaves_before_the_first_byte_costs_nothing(
    open_shop: OpenShop,
) -> None:
    app, started = FastAPI(), asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        started.set()
        await asyncio.sleep(60)
        yield b"too late"

    @app.get("/stream", dependencies=REPORT)
    async def stream() -> StreamingResponse:
        return StreamingResponse(parts())

    shop = await open_shop(app)
    await _ask_and_leave(shop, "/stream", started)
    await settled(shop, "10")


async def test_work_that_was_done_is_charged_although_its_client_has_left(
    open_shop: OpenShop,
) -> None:
    app, started, left = FastAPI(), asyncio.Event(), asyncio.Event()

    @app.get("/report", dependencies=REPORT)
    async def report() -> dict[str, bool]:
        started.set()
        await left.wait()
        return {"fine": True}

    shop = await open_shop(app)
    await _ask_and_leave(shop, "/report", started)
    await asyncio.sleep(0.05)
    assert await shop.credits() == (10, 1)
    left.set()
    await settled(shop, "9")


async def test_questions_about_a_route_are_never_priced(open_shop: OpenShop) -> None:
    app = FastAPI()

    @app.api_route("/report", methods=["GET", "HEAD", "OPTIONS"], dependencies=REPORT)
    async def report() -> dict[str, bool]:
        return {"fine": True}

    shop = await open_shop(app)
    for method in ("HEAD", "OPTIONS"):
        for client in (shop.http, shop.anybody):
            answer = await client.request(method, "/report")
            assert answer.status_code == 200
            assert "credits-charged" not in answer.headers
    assert await shop.credits() == (10, 0)
