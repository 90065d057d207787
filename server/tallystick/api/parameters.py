"""The parameters that a request tells, each of them once.

Two readers of one request must not see two values: who prices the last of two and
serves the first gives the difference away. So a parameter of the catalog that is told
twice is refused before anything is priced.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers, ImmutableMultiDict, QueryParams

from tallystick.api.asked import LARGEST_PRICED_BODY_BYTES
from tallystick.api.bodies import bounded_body, read_json
from tallystick.api.errors import InvalidRequest
from tallystick.catalog.models import Feature


async def parameters_of(request: Request, feature: Feature) -> dict[str, Any]:
    """The call's parameters: those of the path, the query and a JSON or form body.

    Raises ``InvalidRequest`` for one that is told twice, and ``BodyTooLarge``.
    """
    body = b""
    if is_json(request.headers):
        body = await bounded_body(request, LARGEST_PRICED_BODY_BYTES)
    return _merged(
        feature,
        _pairs(feature, request.query_params),
        _members(body),
        # FastAPI has read it by now if the route has a form; nobody can read it twice.
        _pairs(feature, request._form or QueryParams()),  # noqa: SLF001  # see above
        request.path_params,
    )


def is_json(headers: Headers) -> bool:
    """Whether the body calls itself JSON."""
    return "json" in headers.get("content-type", "").lower()


def told_parameters(
    feature: Feature, query: QueryParams, json_body: bytes
) -> dict[str, Any]:
    """The parameters in a query and a JSON body; raises ``InvalidRequest``."""
    return _merged(feature, _pairs(feature, query), _members(json_body))


def _pairs(feature: Feature, told: ImmutableMultiDict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in told:
        values = [one for one in told.getlist(name) if isinstance(one, str)]
        if _is_list(feature, name):
            found[name] = _items(values)
        elif name in feature.parameters and len(values) > 1:
            raise _twice(name)
        elif values:
            found[name] = values[-1]
    return found


def _members(json_body: bytes) -> Mapping[str, Any]:
    body = read_json(json_body or b"{}")
    return body if isinstance(body, Mapping) else {}


def _merged(feature: Feature, *sources: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for source in sources:
        for name in source.keys() & found.keys() & feature.parameters.keys():
            if _words(source[name]) != _words(found[name]):
                raise _twice(name)
        found |= source
    return found


def _words(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [str(one) for one in value]
    return str(value)


def _twice(name: str) -> InvalidRequest:
    return InvalidRequest(f"the parameter {name!r} is told twice", field=name)


def _is_list(feature: Feature, name: str) -> bool:
    return name in feature.parameters and feature.parameters[name].type == "list"


def _items(values: list[str]) -> list[str]:
    return [item for value in values for item in value.split(",") if item]
