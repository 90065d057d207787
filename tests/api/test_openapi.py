"""The OpenAPI document is whole, and the page that shows it is ours alone."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from fastapi import FastAPI
from openapi_spec_validator import OpenAPIV31SpecValidator

from tallystick.app import create_app, install
from tallystick.config import Settings
from tests.api.payments import ON_SQLITE
from tests.live import make_settings

ADDRESS = re.compile(r"(?:https?:)?//[\w.-]+")


def refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from refs(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from refs(inner)


def meant(document: Any, ref: str) -> Any:
    assert ref.startswith("#/"), ref
    found = document
    for name in ref[2:].split("/"):
        found = found[name]
    return found


def require_whole(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert [str(one) for one in OpenAPIV31SpecValidator(document).iter_errors()] == []
    found = list(refs(document))
    assert len(found) > 10
    for ref in found:
        assert meant(document, ref), ref
    assert "$defs" not in str(document)


@pytest.fixture
def settings(tmp_path: Any) -> Settings:
    url = f"sqlite+aiosqlite:///{tmp_path}/never-opened.sqlite3"
    return make_settings(url, "http://127.0.0.1:9", 8402)


@ON_SQLITE
async def test_the_document_of_a_running_server_is_whole(
    shop: httpx.AsyncClient,
) -> None:
    document = (await shop.get("/openapi.json")).json()
    require_whole(document)
    strict = document["paths"]["/features/strict"]["post"]
    assert strict["responses"]["402"]
    completion = document["paths"]["/api/paywall/complete"]["post"]["requestBody"]
    schema = completion["content"]["application/json"]["schema"]
    answer = meant(document, next(refs(schema["properties"]["answer"])))
    assert answer["properties"]["status"]["maximum"] == 599


def test_the_document_of_an_app_that_has_not_started_is_whole(
    settings: Settings,
) -> None:
    require_whole(create_app(settings).openapi())


def test_a_sellers_own_schemas_are_left_alone(settings: Settings) -> None:
    app = FastAPI()
    theirs = {"type": "object", "$defs": {"Own": {"type": "string"}}}
    body = {"requestBody": {"content": {"application/json": {"schema": theirs}}}}

    @app.post("/own", openapi_extra=body)
    async def own() -> None: ...

    install(app, settings, prefix="/billing")
    document = app.openapi()
    kept = document["paths"]["/own"]["post"]["requestBody"]["content"]
    assert kept["application/json"]["schema"] == theirs
    names = document["components"]["schemas"]
    ours = {name for name in names if name.startswith("Tallystick")}
    assert set(names) - ours <= {"HTTPValidationError", "ValidationError"}
    for ref in refs(document):
        assert meant(document, ref), ref


@ON_SQLITE
async def test_the_page_that_shows_the_document_names_no_foreign_host(
    shop: httpx.AsyncClient,
) -> None:
    page = await shop.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    start = await shop.get("/docs/start.js")
    for text in (page.text, start.text):
        assert ADDRESS.findall(text.replace("// ", "")) == []
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(sources) >= 4
    for source in sources:
        if source.startswith("data:"):
            continue
        found = await shop.get(urljoin("/docs", source))
        assert found.status_code == 200, source
        assert len(found.content) > 200


@ON_SQLITE
async def test_the_page_runs_scripts_of_ours_alone(shop: httpx.AsyncClient) -> None:
    page = await shop.get("/docs")
    policy = page.headers["content-security-policy"]
    directives = dict(one.strip().split(" ", 1) for one in policy.split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == "'self'"
    assert directives["connect-src"] == "'self'"
    assert ADDRESS.findall(policy) == []
    assert "<script>" not in page.text
    # Swagger UI asks a validator elsewhere about the document unless it is told not to.
    assert "validatorUrl: null" in (await shop.get("/docs/start.js")).text


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/redoc"])
async def test_a_sellers_app_gets_no_page_of_ours(
    settings: Settings, path: str
) -> None:
    app = FastAPI(docs_url=None, redoc_url=None)
    install(app, settings)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert (await client.get(path)).status_code == 404
