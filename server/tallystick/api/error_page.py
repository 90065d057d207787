"""``/errors``: what every problem document's ``type`` leads to."""

import base64
import re
from hashlib import sha256
from html import escape

from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from tallystick.api.pages import page_headers
from tallystick.kernel.error_list import ErrorLine, error_lines

router = APIRouter(include_in_schema=False)
_STYLE = """
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 44rem;
  padding: 0 1rem; color: #1c1c1c; background: #fff; }
section { border-top: 1px solid #ccc; padding: 0.5rem 0; }
section:target { background: #fff3c4; }
h3 { margin: 0.5rem 0; }
h3 span { font-weight: normal; color: #555; }
p { margin: 0.25rem 0; }
@media (prefers-color-scheme: dark) {
  body { color: #eee; background: #161616; }
  section:target { background: #4a3c00; }
  h3 span { color: #aaa; }
}
"""
_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
_HEADERS = page_headers(f"style-src 'sha256-{_HASH}'")
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Errors</title>
<style>{style}</style>
</head>
<body>
<h1>Errors</h1>
<p>Every error is a problem document (RFC 9457). Its <code>code</code> never changes;
its <code>detail</code> says what happened in your case.</p>
<h2>For those who call the API</h2>
{callers}
<h2>For those who run or embed the server</h2>
{operators}
</body>
</html>
"""


@router.get("/errors")
async def errors() -> Response:
    """All codes, each under the anchor that ``type`` names."""
    lines = error_lines()
    page = _PAGE.format(
        style=_STYLE,
        callers="\n".join(_section(one) for one in lines if not one.is_for_operators),
        operators="\n".join(_section(one) for one in lines if one.is_for_operators),
    )
    return HTMLResponse(page, headers=_HEADERS)


def _section(one: ErrorLine) -> str:
    code = escape(one.code)
    told = [f"<p>{_marked(one.meaning)}</p>"]
    if one.next_step:
        told.append(f"<p><strong>What to do:</strong> {_marked(one.next_step)}</p>")
    head = (
        f"<h3><code>{code}</code> <span>{one.status}: {escape(one.title)}</span></h3>"
    )
    return f'<section id="{code}">\n{head}\n' + "\n".join(told) + "\n</section>"


def _marked(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
