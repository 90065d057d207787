"""A wrong call is told so before anything is paid for it."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Body, Cookie, Depends, FastAPI, Header, Query
from pydantic import BaseModel

from tallystick import paid
from tests.embed.conftest import OpenShop

PAID = [Depends(paid("report"))]


class Order(BaseModel):
    count: int


def page(number: int = 1) -> int:
    return number


def token(token: Annotated[str, Header()]) -> str:
    return token


def shop_app() -> FastAPI:
    app = FastAPI()
    router = APIRouter(prefix="/of/{tenant}", dependencies=PAID)

    @app.get("/items/{item}", dependencies=PAID)
    async def items(
        item: int,
        size: Annotated[int, Query(ge=1)] = 1,
        kind: Annotated[int, Cookie()] = 1,
    ) -> list[int]:
        return [item, size, kind]

    @router.get("/things/{thing}")
    async def things(tenant: str, thing: int) -> list[Any]:
        return [tenant, thing]

    @app.post("/orders", dependencies=PAID)
    async def orders(order: Order) -> int:
        return order.count

    @app.post("/both", dependencies=PAID)
    async def both(order: Order, note: Annotated[str, Body()]) -> list[Any]:
        return [order.count, note]

    @app.get("/paged", dependencies=PAID)
    async def paged(number: Annotated[int, Depends(page)]) -> int:
        return number

    @app.get("/secret", dependencies=PAID)
    async def secret(told: Annotated[str, Depends(token)]) -> str:
        return told

    @app.post("/raw", dependencies=PAID)
    async def raw(text: Annotated[bytes, Body()]) -> int:
        return len(text)

    app.include_router(router)
    app.dependency_overrides[token] = lambda: "overridden"
    return app


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("GET", "/items/x", {}),
        ("GET", "/items/1?size=0", {}),
        ("GET", "/items/1", {"headers": {"Cookie": "kind=x"}}),
        ("GET", "/of/acme/things/x", {}),
        ("POST", "/orders", {"json": {"count": "many"}}),
        ("POST", "/orders", {"json": {}}),
        ("POST", "/orders", {"json": None}),
        ("POST", "/both", {"json": {"order": {"count": 1}}}),
        ("POST", "/both", {"json": {"count": 1, "note": "x"}}),
        ("GET", "/paged?number=x", {}),
    ],
)
async def test_a_wrong_call_is_refused_before_payment(
    open_shop: OpenShop, method: str, path: str, more: dict[str, Any]
) -> None:
    shop = await open_shop(shop_app())
    refused = await shop.anybody.request(method, path, **more)
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"]


async def test_a_right_call_is_asked_for_payment_and_served(
    open_shop: OpenShop,
) -> None:
    shop = await open_shop(shop_app())
    calls: list[tuple[str, str, dict[str, Any], Any]] = [
        ("GET", "/items/7?size=2", {"headers": {"Cookie": "kind=3"}}, [7, 2, 3]),
        ("GET", "/of/acme/things/5", {}, ["acme", 5]),
        ("POST", "/orders", {"json": {"count": 4}}, 4),
        ("POST", "/both", {"json": {"order": {"count": 1}, "note": "n"}}, [1, "n"]),
        ("GET", "/paged?number=9", {}, 9),
        ("GET", "/secret", {}, "overridden"),
        ("POST", "/raw", {"content": b"four"}, 4),
    ]
    for method, path, more, expected in calls:
        unpaid = await shop.anybody.request(method, path, **more)
        assert unpaid.status_code == 402, path
        answer: httpx.Response = await shop.http.request(method, path, **more)
        assert (answer.status_code, answer.json()) == (200, expected)
    assert await shop.credits() == (3, 0)
