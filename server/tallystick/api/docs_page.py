"""``/docs``: the OpenAPI document to read and try, without a foreign host.

FastAPI's own page fetches its scripts from elsewhere, so a stranger could change what
runs beside somebody's key. Here they come from the package ``fastapi-offline``.
"""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse, HTMLResponse, Response

from tallystick.api.pages import page_headers

router = APIRouter(include_in_schema=False)
_ASSETS = Path(str(files("fastapi_offline") / "static"))
_KEPT = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
_HEADERS = page_headers(
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",  # Swagger UI sets styles on its elements
    "img-src 'self' data:",
    "connect-src 'self'",
)
# The addresses are relative, so they stay right behind a proxy's own path.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tallystick: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<noscript>This page needs JavaScript. The document is
<a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: new URL("openapi.json", document.baseURI).href,
  dom_id: "#api",
  deepLinking: true,
  showExtensions: true,
  // Otherwise it sends the document's address to a validator elsewhere.
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
"""


@router.get("/docs")
async def docs() -> Response:
    """The page."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


@router.get("/docs/start.js")
async def start() -> Response:
    """What starts it; inline it would need a policy that allows inline scripts."""
    return Response(_START, media_type="text/javascript", headers=_KEPT)


@router.get("/docs/swagger-ui.css")
async def styles() -> Response:
    """Swagger UI's styles."""
    return FileResponse(_ASSETS / "swagger-ui.css", headers=_KEPT)


@router.get("/docs/swagger-ui-bundle.js")
async def bundle() -> Response:
    """Swagger UI itself."""
    return FileResponse(_ASSETS / "swagger-ui-bundle.js", headers=_KEPT)
