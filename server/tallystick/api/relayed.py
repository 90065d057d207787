"""A request that a server of the seller's got, as it tells us about it."""

import base64
import binascii
from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import Field
from starlette.datastructures import Headers, QueryParams

from tallystick.api.arguments import check_told
from tallystick.api.asked import Asked, sign_in_path
from tallystick.api.bodies import Body
from tallystick.api.errors import InvalidRequest
from tallystick.api.parameters import is_json, told_parameters
from tallystick.catalog.models import Feature
from tallystick.catalog.quantity import quantity_of
from tallystick.paywall.gate import Gate

_Name = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}$")]
_Value = Annotated[str, Field(pattern=r"^[\t\x20-\x7e\x80-\xff]*$")]
HeaderValues = Mapping[_Name, _Value | list[_Value]]
"""Names to one value or several, of what HTTP can carry (RFC 9110, 5.5 and 5.6.2)."""
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Relayed(Body):
    """The request, and what it asks for.

    ``url`` is the whole address, or only path and query, as the client sent them. The
    body is told by its SHA-256 or given itself. ``quantity`` is needed when the
    feature counts something that the body alone tells and only its hash is given.
    """

    feature: str
    quantity: Decimal | None = None
    method: Annotated[str, Field(pattern=r"^[A-Za-z]{1,20}$")]
    url: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,8192}$")]
    headers: HeaderValues = Field(default_factory=dict)
    body_sha256: Annotated[str | None, Field(pattern=r"^[0-9a-fA-F]{64}$")] = None
    body_base64: str | None = None


def asked_by(gate: Gate, relayed: Relayed) -> Asked:
    """The request as the paywall needs it; raises ``InvalidRequest``."""
    parts = _url_parts(relayed.url)
    path = parts.path or "/"
    base = f"{parts.scheme}://{parts.netloc}" if parts.netloc else gate.public_url
    url = base + path
    return Asked(
        method=relayed.method.upper(),
        path=path,
        query=parts.query.encode(),
        headers=_headers(relayed.headers),
        body_sha256=_body_sha256(relayed),
        url=url,
        sign_in_path=sign_in_path(gate, url),
    )


def units_of(feature: Feature, relayed: Relayed) -> Decimal | int:
    """How many units it is about, told outright or read from its parameters.

    Raises ``InvalidQuantity``, or ``InvalidRequest`` for a parameter that is wrong.
    """
    query = QueryParams(_url_parts(relayed.url).query)
    json_body = b""
    if relayed.body_base64 is not None and is_json(_headers(relayed.headers)):
        json_body = from_base64(relayed.body_base64, "body_base64")
    told = told_parameters(feature, query, json_body)
    check_told(feature, told)
    if relayed.quantity is not None:
        return relayed.quantity
    return quantity_of(feature, told)


def from_base64(text: str, field: str) -> bytes:
    """The bytes of standard base64; raises ``InvalidRequest``."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{field} is not base64", field=field) from None


def header_list(headers: HeaderValues) -> list[tuple[str, str]]:
    """One pair for each value."""
    return [
        (name, value)
        for name, values in headers.items()
        for value in ([values] if isinstance(values, str) else values)
    ]


def _url_parts(url: str) -> SplitResult:
    if "#" in url:
        # No client sends one, and what follows it would not be bound (RFC 9112, 3.2).
        raise InvalidRequest("url has a fragment", field="url")
    if url.startswith("/"):
        # By itself ``//name`` would be read as a host (RFC 9112, 3.2.1).
        path, _, query = url.partition("?")
        return SplitResult("", "", path, query, "")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidRequest("url is no address", field="url") from None
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise InvalidRequest("url is neither an address nor a path", field="url")
    return parts


def _headers(headers: HeaderValues) -> Headers:
    pairs = [
        (name.lower().encode("ascii"), value.strip(" \t").encode("latin-1"))
        for name, value in header_list(headers)
    ]
    return Headers(raw=pairs)


def _body_sha256(relayed: Relayed) -> bytes:
    told, given = relayed.body_sha256, relayed.body_base64
    if told is not None and given is not None:
        raise InvalidRequest("tell the body's hash or give the body, not both")
    if told is not None:
        return bytes.fromhex(told)
    if given is not None:
        return sha256(from_base64(given, "body_base64")).digest()
    if relayed.method.upper() in _WITH_BODY:
        # A default would bind the payment to no body, and so to any.
        raise InvalidRequest("body_sha256 is missing", field="body_sha256")
    return sha256().digest()
