"""What stays the seller's own when Tallystick is installed in an app."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
import websockets
from asgi_lifespan import LifespanManager
from fastapi import Depends, FastAPI, HTTPException, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from tallystick import Settings, install, paid
from tallystick.api.errors import (
    NotStarted,
    PaidTwice,
    PaidWebSocket,
    SetUpWrongly,
    WrapperMissing,
)
from tallystick.kernel.errors import TallystickError
from tests.embed.conftest import OpenShop

REPORT = [Depends(paid("report"))]


def paid_app(**options: Any) -> FastAPI:
    app = FastAPI(**options)

    @app.get("/report", dependencies=REPORT)
    async def report() -> dict[str, str]:
        return {"text": "x" * 2_000}

    @app.get("/stream", dependencies=REPORT)
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"one", b"two"]))

    @app.get("/broken", dependencies=REPORT)
    async def broken() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            raise RuntimeError("no byte was sent")
            yield b""

        return StreamingResponse(parts())

    @app.get("/free")
    async def free() -> str:
        return "free"

    return app


async def call(app: FastAPI, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        return await client.get(path)


async def test_a_paid_route_without_install_says_what_to_do() -> None:
    with pytest.raises(WrapperMissing, match="install"):
        await call(paid_app(), "/report")


async def test_an_app_that_was_never_started_says_so(settings: Settings) -> None:
    app = paid_app()
    install(app, settings)
    answer = await call(app, "/report")
    assert (answer.status_code, answer.json()["code"]) == (500, "not_started")
    assert "lifespan" in answer.json()["detail"]
    assert (await call(app, "/free")).json() == "free"


async def test_an_installed_app_inside_of_another_is_not_started(
    settings: Settings,
) -> None:
    inner, outer = paid_app(), FastAPI()
    install(inner, settings)
    outer.mount("/inner", inner)
    async with LifespanManager(outer):
        answer = await call(outer, "/inner/report")
    assert answer.json()["code"] == NotStarted.code
    assert "outermost" in answer.json()["detail"]


def test_installing_twice_is_refused(settings: Settings) -> None:
    app = FastAPI()
    install(app, settings)
    with pytest.raises(RuntimeError, match="already"):
        install(app, settings)


def _unknown(app: FastAPI) -> None:
    app.get("/x", dependencies=[Depends(paid("reprot"))])(lambda: None)


def _twice(app: FastAPI) -> None:
    both = [Depends(paid("report")), Depends(paid("page"))]
    app.get("/x", dependencies=both)(lambda: None)


def _nested(app: FastAPI) -> None:
    def inner(serve: Annotated[Any, Depends(paid("report"))]) -> Any:
        return serve

    app.get("/x", dependencies=[Depends(inner), Depends(paid("page"))])(lambda: None)


def _websocket(app: FastAPI) -> None:
    @app.websocket("/x", dependencies=REPORT)
    async def socket(socket: WebSocket) -> None: ...


def _mounted(app: FastAPI) -> None:
    inner = FastAPI()
    _unknown(inner)
    app.mount("/inner", inner)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (_unknown, SetUpWrongly, "paid\\(\\) at /x: .*reprot"),
        (_twice, PaidTwice, "one price"),
        (_nested, PaidTwice, "one price"),
        (_websocket, PaidWebSocket, "only HTTP routes"),
        (_mounted, SetUpWrongly, "reprot"),
    ],
)
async def test_a_route_that_cannot_be_charged_for_stops_the_start(
    settings: Settings,
    spoil: Callable[[FastAPI], None],
    error: type[Exception],
    words: str,
) -> None:
    app = FastAPI()
    spoil(app)
    install(app, settings)
    with pytest.raises(error, match=words):
        async with LifespanManager(app):
            pass


async def test_one_paid_for_a_router_and_a_route_is_one_charge(
    open_shop: OpenShop,
) -> None:
    app, once = FastAPI(), Depends(paid("report"))
    app.router.dependencies.append(once)

    @app.get("/report", dependencies=[once])
    async def report() -> None: ...

    shop = await open_shop(app)
    answer = await shop.http.get("/report")
    assert answer.headers["credits-charged"] == "1"
    assert await shop.credits() == (9, 0)


async def test_a_second_price_that_only_shows_at_a_call_releases_the_first(
    open_shop: OpenShop,
) -> None:
    app = FastAPI()

    async def hidden(request: Request) -> None:
        await paid("page")(request)

    @app.get("/x", dependencies=[*REPORT, Depends(hidden)])
    async def both() -> None: ...

    shop = await open_shop(app)
    answer = await shop.http.get("/x")
    assert (answer.status_code, answer.json()["code"]) == (500, "paid_twice")
    assert await shop.credits() == (10, 0)


async def test_a_mounted_app_is_paid_like_any_other(open_shop: OpenShop) -> None:
    outer, inner = FastAPI(), paid_app()
    outer.mount("/inner", inner)
    shop = await open_shop(outer)
    unpaid = await shop.anybody.get("/inner/report")
    assert (unpaid.status_code, unpaid.json()["code"]) == (402, "payment_required")
    answer = await shop.http.get("/inner/report")
    assert (answer.status_code, answer.headers["credits-charged"]) == (200, "1")
    broken = await shop.http.get("/inner/broken")
    assert broken.status_code == 500
    assert await shop.credits() == (9, 0)


async def _pass(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    return await call_next(request)


async def _read_first(
    request: Request, call_next: Callable[[Request], Awaitable[Response]]
) -> Response:
    await request.body()
    return await call_next(request)


MIDDLEWARE: dict[str, tuple[Any, dict[str, Any]]] = {
    "base": (BaseHTTPMiddleware, {"dispatch": _pass}),
    "base that reads": (BaseHTTPMiddleware, {"dispatch": _read_first}),
    "gzip": (GZipMiddleware, {"minimum_size": 100}),
}


@pytest.mark.parametrize("name", MIDDLEWARE)
@pytest.mark.parametrize("place", ["inside", "outside"])
async def test_other_middleware_may_stand_on_either_side(
    open_shop: OpenShop, settings: Settings, name: str, place: str
) -> None:
    kind, options = MIDDLEWARE[name]
    app = paid_app()

    @app.post("/echo", dependencies=REPORT)
    async def echo(request: Request) -> str:
        return (await request.body()).decode()

    if place == "inside":
        app.add_middleware(kind, **options)
        shop = await open_shop(app)
    else:
        shop = await open_shop(app, then=lambda: app.add_middleware(kind, **options))
    key = {"Idempotency-Key": "one"}
    first = await shop.http.get("/report", headers=key)
    assert (first.status_code, len(first.json()["text"])) == (200, 2_000)
    assert first.headers["credits-remaining"] == "9"
    again = await shop.http.get("/report", headers=key)
    assert (again.content, again.status_code) == (first.content, 200)
    assert again.headers["idempotency-replayed"] == "true"
    stream = await shop.http.get("/stream")
    assert (stream.text, stream.headers["credits-remaining"]) == ("onetwo", "8")
    assert (await shop.http.post("/echo", content=b"hello")).json() == "hello"
    assert (await shop.http.get("/broken")).status_code == 500
    assert (await shop.anybody.get("/report")).status_code == 402
    assert await shop.credits() == (7, 0)


async def test_the_sellers_exception_handlers_are_kept(open_shop: OpenShop) -> None:
    app, seen = paid_app(), []

    def told(code: int) -> Any:
        async def handler(_request: Request, error: Exception) -> JSONResponse:
            seen.append(type(error).__name__)
            return JSONResponse({"theirs": True}, code)

        return handler

    app.add_exception_handler(HTTPException, told(470))
    app.add_exception_handler(RequestValidationError, told(471))
    app.add_exception_handler(ValueError, told(472))
    app.add_exception_handler(TallystickError, told(473))
    app.add_exception_handler(Exception, told(570))

    @app.get("/raise/{kind}", dependencies=REPORT)
    async def broken(kind: int) -> None:
        raise [HTTPException(400), ValueError(), KeyError()][kind]

    shop = await open_shop(app)
    codes = [
        (await shop.http.get(f"/raise/{kind}")).status_code for kind in (0, 1, 2, "x")
    ]
    assert codes == [470, 472, 570, 471]
    unknown = {"Authorization": "Bearer tk_0000000000000_aa_bbbbbbbb"}
    assert (await shop.anybody.get("/report", headers=unknown)).status_code == 473
    assert (await shop.anybody.get("/report")).status_code == 402
    assert seen[-1] == "InvalidKey"
    assert await shop.credits() == (10, 0)


async def test_the_sellers_lifespan_runs_while_we_do(open_shop: OpenShop) -> None:
    order = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        order.append(app.state.tallystick.gate.catalog().about.slug)
        yield {"theirs": "state"}
        order.append("stopped")

    app = FastAPI(lifespan=lifespan)

    @app.get("/state", dependencies=REPORT)
    async def state(request: Request) -> str:
        return str(request.state.theirs)

    shop = await open_shop(app)
    assert (await shop.http.get("/state")).json() == "state"
    assert order == ["shop"]
    await shop.server.stop()
    assert order == ["shop", "stopped"]


async def test_a_websocket_beside_paid_routes_works(open_shop: OpenShop) -> None:
    app = paid_app()

    @app.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    @app.websocket("/hidden")
    async def hidden(socket: WebSocket) -> None:
        await paid("report")(socket)

    shop = await open_shop(app)
    url = shop.server.url.replace("http", "ws")
    async with websockets.connect(f"{url}/echo") as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"
    with pytest.raises(websockets.InvalidStatus) as refused:
        await websockets.connect(f"{url}/hidden")
    assert refused.value.response.status_code == 500


async def test_a_prefix_stands_before_all_our_paths(open_shop: OpenShop) -> None:
    app = paid_app()

    @app.get("/api/credits")
    async def theirs() -> str:
        return "theirs"

    shop = await open_shop(app, prefix="/billing")
    assert (await shop.http.get("/api/credits")).json() == "theirs"
    mine = await shop.http.get("/billing/api/credits")
    assert mine.json()["credits"] == 10
    assert (await shop.http.get("/billing/livez")).json() == {"alive": True}
    unpaid = (await shop.anybody.get("/report")).json()
    assert unpaid["type"] == f"/billing/errors#{unpaid['code']}"
    assert unpaid["topup_url"] == f"{shop.server.url}/billing/api/credits/add"
    assert (await shop.http.post(unpaid["topup_url"], json={"amount": 1})).status_code
    offered = await shop.anybody.get("/billing/api/credits")
    assert offered.status_code == 401
    paths = (await shop.anybody.get("/openapi.json")).json()["paths"]
    assert "/billing/api/credits" in paths


async def test_the_sellers_cors_policy_is_kept(open_shop: OpenShop) -> None:
    asked = {"Origin": "https://evil.example"}
    preflight = asked | {"Access-Control-Request-Method": "GET"}
    app = paid_app()
    app.add_middleware(CORSMiddleware, allow_origins=["https://good.example"])
    shop = await open_shop(app)
    for path in ("/free", "/report", "/api/catalog"):
        answer = await shop.anybody.get(path, headers=asked)
        assert "access-control-allow-origin" not in answer.headers
    answer = await shop.anybody.options("/free", headers=preflight)
    assert answer.status_code == 400
    good = {"Origin": "https://good.example"}
    answer = await shop.http.get("/report", headers=good)
    assert answer.headers["access-control-allow-origin"] == good["Origin"]


async def test_the_document_tells_the_price_of_a_sellers_route(
    open_shop: OpenShop,
) -> None:
    shop = await open_shop(paid_app())
    paths = (await shop.anybody.get("/openapi.json")).json()["paths"]
    told = paths["/report"]["get"]
    assert told["x-tallystick-price"] == {
        "feature": "report",
        "credits": "1",
        "usd": "0.10",
        "unit": "call",
        "quantity_from": None,
    }
    assert "application/problem+json" in told["responses"]["402"]["content"]
    assert "402" not in paths["/free"]["get"]["responses"]
    assert json.dumps(paths)
