"""Slow, large and copied calls of a paid route are charged once, or do not leave."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from fastapi import (
    Depends,
    FastAPI,
    Request,
)
from fastapi.responses import Response, StreamingResponse
from sqlalchemy import update

from tallystick import paid
from tallystick.credits.models import Hold
from tallystick.paywall.models import StoredAnswer
from tests.embed.answers import REPORT, charged
from tests.embed.conftest import OpenShop


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
