"""A quantity is priced as the route reads it, or refused before it is priced."""

from decimal import Decimal
from typing import Annotated, Any

import pytest
from fastapi import (
    Body,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Query,
    Request,
)
from pydantic import BaseModel, Field
from starlette.datastructures import FormData

from tallystick import paid
from tallystick.api.errors import InvalidRequest
from tallystick.api.parameters import parameters_of
from tallystick.catalog.load import load_catalog
from tests.embed.answers import charged
from tests.embed.conftest import CATALOG, OpenShop


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
