"""A call with wrong parameters is refused before anything is paid for it.

FastAPI looks at a route's own parameters only after all of its dependencies have run,
and ``paid`` is one of them. A client that pays, and is told then that its call was
wrong, has bought credits for nothing.
"""

import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from fastapi import Request, params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import solve_dependencies
from fastapi.exceptions import RequestValidationError
from pydantic_core import PydanticUndefined

_UNREAD = object()
_JSON = re.compile(r"application/([^;\s]+\+)?json\s*(;|$)", re.IGNORECASE)
"""What FastAPI itself reads as JSON."""


async def require_valid(request: Request) -> dict[str, Any]:
    """The parameters as FastAPI will hand them on, without running a dependency.

    Each is there under its own name and under the one that callers write.

    Only what is certain is refused: a form, or a body that is no JSON, is left to
    FastAPI. Raises ``RequestValidationError``, so that the app's own handler answers.
    """
    route = _route(request)
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        return {}
    body = await _json_of(request, route)
    errors: list[Any] = []
    values: dict[str, Any] = {}
    for one in _parts(dependant, request.app.dependency_overrides):
        own = replace(one, dependencies=[])
        if body is _UNREAD:
            own = replace(own, body_params=[])
        async with AsyncExitStack() as stack:
            solved = await solve_dependencies(
                request=request,
                dependant=own,
                body=body,
                async_exit_stack=stack,
                embed_body_fields=getattr(route, "_embed_body_fields", False),
            )
        errors += solved.errors
        values |= solved.values | _by_alias(own, solved.values)
    if errors:
        raise RequestValidationError(errors)
    return values


def _by_alias(dependant: Dependant, values: dict[str, Any]) -> dict[str, Any]:
    fields = (
        *dependant.path_params,
        *dependant.query_params,
        *dependant.header_params,
        *dependant.cookie_params,
        *dependant.body_params,
    )
    return {one.alias: values[one.name] for one in fields if one.name in values}


def _route(request: Request) -> Any:
    """The route as it was included: its prefix may hold parameters of the path."""
    included = request.scope.get("fastapi", {}).get("effective_route_context")
    return included or request.scope.get("route")


async def _json_of(request: Request, route: Any) -> Any:
    body_field = getattr(route, "body_field", None)
    if body_field is None or isinstance(body_field.field_info, params.Form):
        return _UNREAD
    # FastAPI has read this body already, so it is here and it is JSON if it says so.
    if not await request.body():
        return PydanticUndefined
    content_type = request.headers.get("content-type", "")
    return await request.json() if _JSON.match(content_type) else _UNREAD


def _parts(dependant: Dependant, overridden: Any) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        if one.call not in overridden:
            yield from _parts(one, overridden)
