"""What a seller's own route may do, and what is charged for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any

import httpx
import pytest
from fastapi import (
    BackgroundTasks,
    Body,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
)
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import update
from starlette.datastructures import FormData

from tallystick import paid
from tallystick.api.errors import InvalidRequest
from tallystick.api.parameters import parameters_of
from tallystick.catalog.load import load_catalog
from tallystick.credits.models import Hold
from tallystick.paywall.models import StoredAnswer
from tests.embed.conftest import CATALOG, OpenShop, Shop

REPORT = [Depends(paid("report"))]


def charged(answer: httpx.Response) -> tuple[str, str]:
    return answer.headers["credits-charged"], answer.headers["credits-remaining"]


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


async def test_the_quantity_may_be_computed_from_the_request(
    open_shop: OpenShop,
) -> None:
    app = FastAPI()

    def told(request: Request) -> int:
        return int(request.headers["pages"])

    async def counted(request: Request) -> Decimal:
        text = (await request.json())["text"]
        if "forbidden" in text:
            raise HTTPException(400, "not this")
        return Decimal(len(text)) / 2

    @app.get("/pages", dependencies=[Depends(paid("page", quantity=told))])
    async def pages() -> None: ...

    @app.post("/text", dependencies=[Depends(paid("page", quantity=counted))])
    async def text(body: Annotated[dict[str, str], Body()]) -> int:
        return len(body["text"])

    @app.get("/fixed", dependencies=[Depends(paid("page", quantity=4))])
    async def fixed() -> None: ...

    shop = await open_shop(app)
    answer = await shop.http.get("/pages", headers={"pages": "3"})
    assert charged(answer) == ("1.5", "8.5")
    answer = await shop.http.post("/text", json={"text": "12345"})
    assert (answer.json(), charged(answer)) == (5, ("1.25", "7.25"))
    assert charged(await shop.http.get("/fixed")) == ("2", "5.25")
    for pages in ("0", "-1", "101"):
        refused = await shop.http.get("/pages", headers={"pages": pages})
        assert (refused.status_code, refused.json()["code"]) == (
            422,
            "invalid_quantity",
        )
    refused = await shop.http.post("/text", json={"text": "forbidden"})
    assert refused.status_code == 400
    assert await shop.credits() == (Decimal("5.25"), 0)


async def test_a_quantity_that_is_told_twice_is_refused_before_it_is_priced(
    open_shop: OpenShop,
) -> None:
    """Priced by one value and served by the other would be twenty for one."""
    app, runs = FastAPI(), []
    copies = [Depends(paid("copies"))]

    @app.get("/copies", dependencies=copies)
    async def by_query(request: Request) -> None:
        runs.append(request.query_params["count"])

    @app.post("/json", dependencies=copies)
    async def by_body(count: Annotated[int, Body(embed=True)]) -> int:
        return count

    @app.get("/path/{count}", dependencies=copies)
    async def by_path(count: int) -> int:
        return count

    shop = await open_shop(app)
    as_json = {"Content-Type": "Application/JSON"}
    for answer in (
        await shop.http.get("/copies?count=20&count=1"),
        await shop.http.post("/json?count=1", content='{"count":20}', headers=as_json),
        await shop.http.get("/path/20?count=1"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
        assert answer.json()["field"] == "count"
    assert await shop.credits() == (10, 0)
    assert runs == []
    for answer in (
        await shop.http.post("/json?count=4", content='{"count":4}', headers=as_json),
        await shop.http.get("/path/4?kind=a&mine=1&mine=2"),
    ):
        assert (answer.status_code, answer.json()) == (200, 4)
    assert await shop.credits() == (8, 0)


async def test_a_quantity_is_priced_as_the_route_reads_it(open_shop: OpenShop) -> None:
    """Told where the route does not look, it would pay for one and get the default."""
    app = FastAPI()
    copies = [Depends(paid("copies"))]

    class Order(BaseModel):
        count: int = 8

    @app.post("/query", dependencies=copies)
    async def by_query(count: int = 8) -> int:
        return count

    @app.post("/json", dependencies=copies)
    async def by_body(order: Order) -> int:
        return order.count

    shop = await open_shop(app)
    for path, body in (("/query", {"count": 1}), ("/json?count=1", {})):
        answer = await shop.http.post(path, json=body)
        assert (answer.json(), charged(answer)[0]) == (8, "2")
    answer = await shop.http.post("/query?count=2")
    assert (answer.json(), charged(answer)) == (2, ("0.5", "5.5"))
    answer = await shop.http.post("/json", json={"count": 4})
    assert (answer.json(), charged(answer)) == (4, ("1", "4.5"))


async def test_a_quantity_under_an_alias_is_priced_as_the_route_reads_it(
    open_shop: OpenShop,
) -> None:
    """What callers write is its alias; the route's own name for it tells nothing."""
    app = FastAPI()
    copies = [Depends(paid("copies"))]

    class Order(BaseModel):
        number: int = Field(default=8, alias="count")

    @app.post("/query", dependencies=copies)
    async def by_query(number: Annotated[int, Query(alias="count")] = 8) -> int:
        return number

    @app.post("/header", dependencies=copies)
    async def by_header(number: Annotated[int, Header(alias="count")] = 8) -> int:
        return number

    @app.post("/json", dependencies=copies)
    async def by_body(order: Order) -> int:
        return order.number

    shop = await open_shop(app)
    for path, headers, body in (
        ("/query", {}, {"count": 1}),
        ("/header?count=1", {"count": "8"}, None),
        ("/header?count=1", {}, None),
        ("/json?count=1", {}, {}),
    ):
        answer = await shop.http.post(path, headers=headers, json=body)
        assert (answer.json(), charged(answer)[0]) == (8, "2"), path
    answer = await shop.http.post("/query?count=2")
    assert (answer.json(), charged(answer)) == (2, ("0.5", "1.5"))
    answer = await shop.http.post("/json", json={"count": 4})
    assert (answer.json(), charged(answer)) == (4, ("1", "0.5"))


@pytest.mark.parametrize("query", [b"count=1", b""])
async def test_the_fields_of_a_form_are_parameters_as_well(query: bytes) -> None:
    """FastAPI has read the form before we see it, if its optional reader is there."""
    feature = load_catalog(CATALOG).feature("copies")
    scope = {"type": "http", "headers": [], "query_string": query, "path_params": {}}
    request = Request(scope)
    request._form = FormData([("count", "20"), ("mine", "a")])
    if query:
        with pytest.raises(InvalidRequest, match="'count' is told twice"):
            await parameters_of(request, feature)
    else:
        assert (await parameters_of(request, feature))["count"] == "20"


async def test_the_catalog_may_tell_where_the_quantity_is(open_shop: OpenShop) -> None:
    app = FastAPI()
    words = [Depends(paid("words"))]

    @app.get("/query", dependencies=words)
    async def query() -> None: ...

    @app.post("/json", dependencies=words)
    async def body(words: Annotated[list[str], Body(embed=True)]) -> int:
        return len(words)

    shop = await open_shop(app)
    answer = await shop.http.get("/query?words=a,b&words=c")
    assert charged(answer) == ("0.75", "9.25")
    answer = await shop.http.post("/json", json={"words": ["a", "b"]})
    assert (answer.json(), charged(answer)) == (2, ("0.5", "8.75"))


async def test_a_body_that_was_read_before_is_bound_all_the_same(
    open_shop: OpenShop,
) -> None:
    """As FastAPI does with a form: it reads the stream, and nobody can do so again."""
    app = FastAPI()

    async def count(request: Request) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @app.post("/upload")
    async def upload(
        size: Annotated[int, Depends(count)],
        _paid: Annotated[Any, Depends(paid("report"))],
    ) -> int:
        return size

    shop = await open_shop(app)
    key = {"Idempotency-Key": "one"}
    answer = await shop.http.post("/upload", content=b"y" * 2_000_000, headers=key)
    assert (answer.json(), charged(answer)) == (2_000_000, ("1", "9"))
    other = await shop.http.post("/upload", content=b"z" * 2_000_000, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")


async def test_a_body_beyond_the_limit_is_refused_before_anything_is_paid(
    open_shop: OpenShop,
) -> None:
    app = FastAPI()
    small = paid("report", largest_body_bytes=10)

    @app.post("/raw", dependencies=[Depends(small)])
    async def raw(request: Request) -> int:
        return len(await request.body())

    shop = await open_shop(app)
    assert (await shop.http.post("/raw", content=b"x" * 10)).json() == 10
    refused = await shop.http.post("/raw", content=b"x" * 11)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")
    assert await shop.credits() == (9, 0)


async def test_a_sellers_own_tokens_are_left_alone(open_shop: OpenShop) -> None:
    app = FastAPI()

    @app.get("/report", dependencies=REPORT)
    async def report(request: Request) -> str:
        return request.headers["authorization"]

    shop = await open_shop(app)
    theirs = {"Authorization": "Bearer eyJhbGciOi.their.own"}
    assert (await shop.anybody.get("/report", headers=theirs)).status_code == 402
    both = theirs | {
        "X-API-Key": shop.http.headers["authorization"].removeprefix("Bearer ")
    }
    answer = await shop.anybody.get("/report", headers=both)
    assert (answer.json(), charged(answer)) == (theirs["Authorization"], ("1", "9"))
    wrong = {"Authorization": "Bearer tk_0000000000000_aa_bbbbbbbb"}
    refused = await shop.anybody.get("/report", headers=wrong)
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_key")


async def test_what_cannot_be_charged_any_more_does_not_leave(
    open_shop: OpenShop,
) -> None:
    app, lapse = FastAPI(), True

    async def let_the_hold_lapse() -> None:
        if lapse:
            statement = update(Hold).values(expires_at_ms=1)
            await shop.gate.db.write(lambda session: session.exec(statement))

    @app.get("/report", dependencies=REPORT)
    async def report() -> str:
        await let_the_hold_lapse()
        return "secret"

    @app.get("/stream", dependencies=REPORT)
    async def stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            await let_the_hold_lapse()
            for _ in range(100):
                yield b"secret"

        return StreamingResponse(parts())

    shop = await open_shop(app, prefix="/billing")
    for path in ("/report", "/stream"):
        answer = await shop.http.get(path, headers={"Idempotency-Key": path})
        assert (answer.status_code, answer.json()["code"]) == (503, "capture_failed")
        assert answer.json()["type"] == "/billing/errors#capture_failed"
        assert "secret" not in answer.text
        assert answer.headers["retry-after"] == "1"
    lapse = False
    again = await shop.http.get("/report", headers={"Idempotency-Key": "/report"})
    assert (again.status_code, again.json()) == (200, "secret")
    assert (await shop.credits())[0] == 9


async def test_a_slow_handler_keeps_its_hold(open_shop: OpenShop) -> None:
    app = FastAPI()

    @app.get("/slow", dependencies=REPORT)
    async def slow() -> str:
        await asyncio.sleep(2.5)
        return "done"

    shop = await open_shop(app)
    running = shop.server.app.state.tallystick
    running.gate = replace(running.gate, hold_seconds=1)
    answer = await shop.http.get("/slow")
    assert (answer.status_code, charged(answer)) == (200, ("1", "9"))


async def test_a_copy_with_the_same_key_gets_the_same_answer_and_receipt(
    open_shop: OpenShop,
) -> None:
    app, runs = FastAPI(), []

    @app.get("/report", dependencies=REPORT)
    async def report() -> Response:
        runs.append(1)
        answer = Response(b"\x00\xff", media_type="application/octet-stream")
        answer.set_cookie("a", "1")
        answer.set_cookie("b", "2")
        return answer

    shop = await open_shop(app)
    key = {"Idempotency-Key": "one"}
    first = await shop.http.get("/report", headers=key)
    shop.http.cookies.clear()
    second = await shop.http.get("/report", headers=key)
    assert len(runs) == 1
    assert second.headers["idempotency-replayed"] == "true"
    assert (second.status_code, second.content) == (200, b"\x00\xff")
    for name in ("credits-charged", "credits-remaining", "cache-control", "set-cookie"):
        assert second.headers.get_list(name) == first.headers.get_list(name)
    assert await shop.credits() == (9, 0)


async def test_a_key_whose_first_request_died_can_be_used_again(
    open_shop: OpenShop,
) -> None:
    app = FastAPI()
    started, go_on = asyncio.Event(), asyncio.Event()

    @app.get("/report", dependencies=REPORT)
    async def report() -> str:
        started.set()
        await go_on.wait()
        return "done"

    shop = await open_shop(app)
    key = {"Idempotency-Key": "one"}
    first = asyncio.create_task(shop.http.get("/report", headers=key))
    await started.wait()
    second = await shop.http.get("/report", headers=key)
    assert (second.status_code, second.json()["code"]) == (409, "request_in_progress")
    # As if the first one's process had died and its hold had lapsed since.
    for table in (Hold, StoredAnswer):
        statement = update(table).values(expires_at_ms=1)
        await shop.gate.db.write(lambda session, one=statement: session.exec(one))
    go_on.set()
    third = await shop.http.get("/report", headers=key)
    assert (third.status_code, charged(third)) == (200, ("1", "9"))
    assert (await first).status_code == 503
