"""Request bodies: bounded, exact, and without unknown fields."""

import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect

from tallystick.api.errors import (
    BodyCutOff,
    BodyTooLarge,
    InvalidRequest,
    invalid_request,
)
from tallystick.api.plain_words import told
from tallystick.kernel import json

LARGEST_BODY_BYTES = 64 * 1024
DEEPEST_BODY = 32
"""Lists and objects inside of each other; no request needs ten."""
SCHEMAS = "#/components/schemas/"
OUR_SCHEMA = "Tallystick"
"""Begins the names of our schemas: a seller's app may have a ``Problem`` of its own."""
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")  # perhaps one without the other
_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?")
T = TypeVar("T", bound="Body")


class Body(BaseModel):
    """A body on a money route: a field that we do not know is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


async def bounded_body(request: Request, limit: int = LARGEST_BODY_BYTES) -> bytes:
    """The whole body; raises ``BodyTooLarge`` as soon as that is certain.

    Raises ``BodyCutOff`` when the client leaves before the body's end.
    """
    if hasattr(request, "_body"):
        return await request.body()
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise BodyTooLarge(f"the body is larger than {limit} bytes")
            chunks.append(chunk)
    except ClientDisconnect as gone:
        raise BodyCutOff("the connection ended before the body did") from gone
    request._body = b"".join(chunks)  # noqa: SLF001  # where request.body() looks
    return request._body  # noqa: SLF001  # likewise


def read_json(raw: bytes) -> Any:
    """The JSON value of a body; its numbers are exact. Raises ``InvalidRequest``.

    Only one reading of it is possible: a name stands once in its object (RFC 8259
    leaves open which of two counts), and the text is UTF-8.
    """
    try:
        value = json.loads_strictly(raw.decode(), deepest=DEEPEST_BODY)
        if _HALF_CHARACTER.search(raw):
            json.dumps(value)  # refuses what no answer and no database could hold
    except json.AmbiguousJson as error:
        raise InvalidRequest(f"the body {error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body is no JSON in UTF-8") from error
    return value


def _plain_number(value: object) -> object:
    """Decimal() alone also takes "1_0", " 1 " and Arabic-Indic digits, and true."""
    is_number = isinstance(value, int | Decimal) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        return value
    raise told("is no number", "a number, or its digits as text")


Number = Annotated[Decimal, BeforeValidator(_plain_number)]
"""An exact number: as JSON has it, or in the same form as text."""


def json_body(
    model: type[T], limit: int = LARGEST_BODY_BYTES
) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads the body as the model, with exact numbers.

    FastAPI's own reading turns 0.1 into a float before the model sees it.
    """

    async def read(request: Request) -> T:
        value = read_json(await bounded_body(request, limit) or b"{}")
        try:
            return model.model_validate(value)
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False)
            raise invalid_request(found, value) from error

    return read


def body_schema(model: type[Body]) -> dict[str, Any]:
    """What ``openapi_extra`` needs, since FastAPI does not see the body.

    Its references lead to ``components``, where ``documentation`` puts what they mean.
    """
    schema = model.model_json_schema(ref_template=f"{SCHEMAS}{OUR_SCHEMA}{{model}}")
    if inner := schema.pop("$defs", None):
        named = {f"{OUR_SCHEMA}{name}": inner[name] for name in inner}
        schema["$defs"] = named
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}
