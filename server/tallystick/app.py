"""Builds everything once and mounts it.

``create_app`` is a server of its own; ``install`` gives a FastAPI app that has routes
already what it needs to be paid.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from tallystick.api import (
    balance,
    catalog,
    deduct,
    docs_page,
    error_page,
    facilitator,
    features,
    health,
    keys,
    metrics,
    paywall_verbs,
    purchase,
    transactions,
)
from tallystick.api.documentation import PROBLEM_RESPONSES, document
from tallystick.api.errors import install_error_answers, own_every_error
from tallystick.api.paid_routes import mounted_apps, require_chargeable
from tallystick.api.passage import Running
from tallystick.api.watching import Watchers, is_local_address
from tallystick.api.wrapper import PaidResponses
from tallystick.config import Settings
from tallystick.kernel.clock import Clock
from tallystick.paywall.gate import Gate
from tallystick.running import running
from tallystick.samples.context import FeatureContext

_ROOMS = (
    catalog,
    balance,
    transactions,
    purchase,
    deduct,
    features,
    keys,
    paywall_verbs,
    health,
    metrics,
    error_page,
)
PAYMENT_HEADERS = (
    "PAYMENT-REQUIRED",
    "PAYMENT-RESPONSE",
    "X-PAYMENT-RESPONSE",
    "Credits-Charged",
    "Credits-Remaining",
    "Idempotency-Replayed",
    "Location",
    "Retry-After",
    "Content-Disposition",
)
"""What a browser must be allowed to read (``Access-Control-Expose-Headers``)."""


def install(
    app: FastAPI, settings: Settings, *, prefix: str = "", clock: Clock | None = None
) -> None:
    """Give an app its paid routes, our API and the workers behind them.

    The app keeps its own lifespan, exception handlers, middleware and CORS policy.
    ``prefix`` stands before our own paths, such as ``/billing``. Call it once, on the
    outermost app. When the app starts it raises ``SetUpWrongly`` for a paid route that
    cannot be charged for, and what ``running`` does.
    """
    if hasattr(app.state, "tallystick_prefix"):
        raise RuntimeError("tallystick is installed in this app already")
    app.state.tallystick_prefix = prefix
    _run_with(app, settings, prefix, clock)
    rooms = (*_ROOMS, facilitator) if settings.act_as_facilitator else _ROOMS
    for room in rooms:
        app.include_router(room.router, prefix=prefix, responses=PROBLEM_RESPONSES)
    app.add_middleware(PaidResponses, state=app.state)
    install_error_answers(app, prefix)
    document(app, prefix)


def _run_with(
    app: FastAPI, settings: Settings, prefix: str, clock: Clock | None
) -> None:
    lifespan_before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(outer: FastAPI) -> AsyncIterator[Any]:
        async with running(settings, clock, api_prefix=prefix) as gate:
            _prepare(outer, gate, prefix)
            outer.state.tallystick = _edge(settings, gate)
            async with lifespan_before(outer) as state:
                yield state

    app.router.lifespan_context = lifespan


def _prepare(app: FastAPI, gate: Gate, prefix: str) -> None:
    """What can only be done once all the routes are there."""
    require_chargeable(app, gate.catalog())
    for inner in mounted_apps(app):
        # An app answers its own errors before the one around it sees them.
        install_error_answers(inner, prefix)
        require_chargeable(inner, gate.catalog())


def _edge(settings: Settings, gate: Gate) -> Running:
    return Running(
        gate,
        settle_wait_ms=int(settings.settle_wait * 1000),
        handlers=features.load_handlers(gate.catalog().features),
        feature_context=FeatureContext(chain=gate.rail.chain),
        watchers=_watchers(settings),
    )


def _watchers(settings: Settings) -> Watchers:
    token = settings.metrics_token
    return Watchers(
        None if token is None else token.get_secret_value(),
        is_local_address(settings.public_url),
    )


def create_app(settings: Settings | None = None, clock: Clock | None = None) -> FastAPI:
    """A whole server, with the settings given or those of the environment.

    ``clock`` is the machine's unless a test brings its own.
    """
    app = FastAPI(
        title="Tallystick",
        docs_url=None,  # our own page needs no foreign host
        redoc_url=None,
        # A redirect would go wherever the Host header says, with keys and payments.
        redirect_slashes=False,
    )
    install(app, settings or Settings(), clock=clock)
    app.include_router(docs_page.router)
    own_every_error(app)
    # Browsers may read the payment headers; cookies play no part here.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=PAYMENT_HEADERS,
    )
    return app
