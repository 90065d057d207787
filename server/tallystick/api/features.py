"""``ANY /features/{slug}``: the priced features of the running catalog."""

import importlib
from http import HTTPMethod
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.arguments import read_arguments
from tallystick.api.errors import MethodNotAllowed
from tallystick.api.paid import Paid
from tallystick.api.parameters import parameters_of
from tallystick.api.passage import Handler, gate_of, running_of
from tallystick.catalog.models import Feature
from tallystick.kernel.errors import NotFound

router = APIRouter(tags=["features"])
# All of them, because only the feature knows which of them to refuse.
_METHODS = [one.value for one in HTTPMethod]


class NoHandler(NotFound):
    """The catalog prices the feature, and another server runs it."""

    next_step = "Call the seller's own address for this feature."


def load_handlers(features: tuple[Feature, ...]) -> dict[str, Handler]:
    """The callable behind each feature that has one.

    Raises ``ImportError`` or ``AttributeError`` for a handler that does not exist.
    """
    handlers = {}
    for feature in features:
        if feature.handler is not None:
            module, _, name = feature.handler.partition(":")
            handlers[feature.slug] = getattr(importlib.import_module(module), name)
    return handlers


async def _checked(request: Request) -> dict[str, Any]:
    """Refuse a call that cannot succeed before anything is paid for it."""
    feature = gate_of(request).catalog().feature(request.path_params["slug"])
    if request.method not in feature.methods:
        raise MethodNotAllowed(feature.methods)
    if feature.slug not in running_of(request).handlers:
        raise NoHandler(f"this server does not run {feature.slug}")
    given = await parameters_of(request, feature)
    given.pop("slug", None)
    return read_arguments(feature, given)


async def _admitted(request: Request) -> None:
    slug = request.path_params["slug"]
    await Paid(slug, None, is_sellers=False)(request)


@router.api_route("/features/{slug}", methods=_METHODS, include_in_schema=False)
async def call_feature(
    slug: str,
    request: Request,
    arguments: Annotated[dict[str, Any], Depends(_checked)],
    _admission: Annotated[None, Depends(_admitted)],
) -> Response:
    """Run a feature of the catalog."""
    running = running_of(request)
    answer = await running.handlers[slug](running.feature_context, **arguments)
    return ExactJson(answer)
