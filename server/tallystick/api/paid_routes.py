"""Which routes of an app are paid, and whether they can be."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIWebSocketRoute, iter_route_contexts
from starlette.routing import Mount

from tallystick.api.errors import PaidTwice, PaidWebSocket, SetUpWrongly
from tallystick.api.paid import Paid
from tallystick.catalog.errors import UnknownFeature
from tallystick.catalog.models import Catalog


@dataclass(frozen=True, slots=True)
class PaidRoute:
    """A route with what is to be paid for it; ``path`` as the app knows it."""

    path: str
    methods: frozenset[str]
    features: tuple[str, ...]
    is_websocket: bool


def paid_routes(app: FastAPI) -> Iterator[PaidRoute]:
    """The app's own paid routes, without those of mounted apps."""
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        found = dict.fromkeys(_paid_in(dependant)) if dependant else {}
        if found:
            yield PaidRoute(
                getattr(route, "path_format", None) or route.path or "",
                frozenset(route.methods or ()),
                tuple(one.feature for one in found),
                isinstance(route.original_route, APIWebSocketRoute),
            )


def mounted_apps(app: FastAPI) -> Iterator[FastAPI]:
    """FastAPI apps that are mounted in this one, at any depth."""
    for route in iter_route_contexts(app.routes):
        mount = route.original_route
        if isinstance(mount, Mount) and isinstance(mount.app, FastAPI):
            yield mount.app
            yield from mounted_apps(mount.app)


def require_chargeable(app: FastAPI, catalog: Catalog) -> None:
    """Raise what a paid route of the app is wrong with, before anybody calls it.

    That is ``SetUpWrongly``: its kinds, or a feature that the catalog does not have.
    """
    for route in paid_routes(app):
        feature = route.features[-1]
        if len(route.features) > 1:
            raise PaidTwice(feature)
        if route.is_websocket:
            raise PaidWebSocket(feature)
        try:
            catalog.feature(feature)
        except UnknownFeature as error:
            raise SetUpWrongly(f"paid() at {route.path}: {error.detail}") from error


def _paid_in(dependant: Dependant) -> Iterator[Paid]:
    call: Any = dependant.call
    if isinstance(call, Paid):
        yield call
    for one in dependant.dependencies:
        yield from _paid_in(one)
