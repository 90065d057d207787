"""The ``type`` of every problem leads to a page that explains it."""

import re
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urldefrag, urljoin

import httpx
import pytest
from fastapi import Depends, FastAPI

from tallystick import Settings, install, paid
from tallystick.app import create_app
from tallystick.kernel.error_list import error_lines
from tests.api.callers import bearer
from tests.api.payments import ON_SQLITE
from tests.live import make_settings


class Anchors(HTMLParser):
    """The ids of a page, and what it would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.fetched: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in {"src", "href", "action"} or tag in {"script", "iframe"}:
                self.fetched.append(f"{tag} {name}={value}")


async def require_explained(http: httpx.AsyncClient, problem: dict[str, Any]) -> None:
    """As a client does: the reference is relative to the page that was asked for."""
    address, anchor = urldefrag(urljoin(str(http.base_url), problem["type"]))
    page = await http.get(address)
    assert page.status_code == 200, problem["type"]
    assert anchor == problem["code"]
    assert anchor in Anchors(page.text).ids


@ON_SQLITE
async def test_every_kind_of_refusal_is_explained(shop: httpx.AsyncClient) -> None:
    refused = [
        await shop.get("/nothing"),
        await shop.put("/api/credits"),
        await shop.get("/api/credits"),
        await shop.get("/api/credits/transactions?limit=x", headers=bearer("tk_x")),
        await shop.get("/features/echo?text=a"),
        await shop.get("/features/echo"),
        await shop.post("/api/credits/add", content=b"{"),
        await shop.get("/features/broken?how=taken", headers=bearer("tk_x")),
    ]
    assert len({one.json()["code"] for one in refused}) > 5
    for one in refused:
        await require_explained(shop, one.json())


@ON_SQLITE
async def test_the_page_tells_each_code_once_and_fetches_nothing(
    shop: httpx.AsyncClient,
) -> None:
    page = await shop.get("/errors")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "script" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    found = Anchors(page.text)
    assert found.ids == sorted(set(found.ids), key=found.ids.index)
    assert set(found.ids) == {one.code for one in error_lines()}
    assert found.fetched == []
    assert "://" not in page.text
    callers, operators = page.text.split("For those who run or embed the server")
    assert 'id="invalid_request"' in callers
    assert 'id="wrapper_missing"' in operators
    # An error that the seller's own catalog raises is explained like one of ours.
    assert 'id="echo_taken"' in callers
    for one in re.findall(r"<p>.*?</p>", page.text):
        assert "`" not in one


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    url = f"sqlite+aiosqlite:///{tmp_path}/never-opened.sqlite3"
    return make_settings(url, "http://127.0.0.1:9", 8402)


def _mounted(settings: Settings) -> FastAPI:
    outer = FastAPI()
    outer.mount("/pay", create_app(settings))
    return outer


def _with_prefix(settings: Settings) -> FastAPI:
    app = FastAPI()
    install(app, settings, prefix="/pay")
    return app


def _behind_a_proxy(settings: Settings) -> FastAPI:
    return create_app(settings)


@pytest.mark.parametrize(
    ("make", "root_path"),
    [(_mounted, ""), (_with_prefix, ""), (_behind_a_proxy, "/pay")],
)
async def test_the_page_is_found_wherever_the_app_is(
    settings: Settings, make: Any, root_path: str
) -> None:
    """None of these has started, which is the problem that they tell of."""
    transport = httpx.ASGITransport(make(settings), root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        answer = await http.get("/pay/api/catalog")
        assert answer.json()["code"] == "not_started"
        assert answer.json()["type"] == "/pay/errors#not_started"
        await require_explained(http, answer.json())


@ON_SQLITE
async def test_every_problem_refers_to_the_page_in_the_same_way(
    shop: httpx.AsyncClient,
) -> None:
    """A 402 comes from the paywall and the others from the edge; nobody can tell."""
    for answer in (
        await shop.get("/features/echo?text=a"),
        await shop.post("/api/credits/add", json={"amount": 5}),
        await shop.post("/api/credits/deduct", json={"feature": "echo"}),
        await shop.put("/features/echo"),
        await shop.get("/api/credits"),
    ):
        document = answer.json()
        assert document["type"] == f"/errors#{document['code']}"


@pytest.mark.parametrize("root_path", ["", "/proxy"])
async def test_a_sub_app_of_a_sellers_refers_to_the_page_of_the_whole(
    settings: Settings, root_path: str
) -> None:
    app, inner = FastAPI(), FastAPI()

    @inner.get("/report", dependencies=[Depends(paid("report"))])
    async def report() -> None: ...

    install(app, settings, prefix="/pay")
    app.mount("/inner", inner)
    from tallystick.api.errors import install_error_answers

    install_error_answers(inner, "/pay")  # as starting the app does
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        answer = await http.get(f"{root_path}/inner/report")
    assert answer.json()["type"] == f"{root_path}/pay/errors#not_started"
