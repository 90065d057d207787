"""What the edge itself refuses, and how every error becomes a problem document."""

from collections.abc import Iterable, Iterator
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from tallystick.api.answers import (
    Problem,
    challenge_answer,
    problem,
    replayed,
    root_of,
)
from tallystick.api.plain_words import UNSEEN, in_plain_words
from tallystick.kernel.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    TallystickError,
    Unavailable,
)
from tallystick.kernel.log import get_logger
from tallystick.paywall.answer import NO_STORE
from tallystick.paywall.challenges import Challenge
from tallystick.paywall.verdicts import Replay

_log = get_logger(__name__)


class InvalidRequest(BadInput):
    """A field of the request is missing, of the wrong type or unknown."""

    next_step = "Correct the field that `errors` names; /openapi.json has the schema."


class BodyTooLarge(BadInput):
    """The body is larger than any request needs."""

    status = 413
    next_step = "Send a smaller body."


class BodyCutOff(BadInput):
    """The client went away in the middle of its body; nothing was done."""

    status = 400
    title = "The body is not whole"
    next_step = "Send the whole request again; nothing was charged."


class UnknownRoute(NotFound):
    """There is nothing at this path."""

    next_step = "See /openapi.json for what there is."


class MethodNotAllowed(BadInput):
    """The path exists; this method does not."""

    status = 405
    next_step = "Use a method that the Allow header names."

    def __init__(self, allowed: Iterable[str]) -> None:
        found = sorted(set(allowed))
        super().__init__("this path does not take this method", allow=found)


class TwoIdentities(BadInput):
    """The request names two callers."""

    status = 400
    next_step = "Send one API key or one sign-in."


class ReservedForOperators(Forbidden):
    """Figures that are the operator's, asked for without the metrics token."""

    title = "These figures are for the operator"
    next_step = (
        "Set TALLYSTICK_METRICS_TOKEN and send it as `Authorization: Bearer …`, or ask"
        " from the machine itself (docs/operating.md)."
    )

    def __init__(self) -> None:
        super().__init__("neither the token nor this machine")


class PriceChanged(Conflict):
    """The caller expects another price than the catalog has."""

    next_step = "Ask GET /api/catalog for the price, and confirm that."


class CaptureFailed(Unavailable):
    """The handler answered and its price could not be charged, so nothing leaves."""

    title = "The call could not be charged"
    next_step = "Call again; nothing was charged."
    retry_after_seconds = 1


class SetUpWrongly(TallystickError):
    """The seller's app cannot charge as it is; its developer must change it."""

    is_for_operators = True
    title = "The server is set up wrongly"
    next_step = "The seller must correct the app."


class WrapperMissing(SetUpWrongly):
    """The app has a paid route and nothing that charges for it."""

    def __init__(self) -> None:
        super().__init__(
            "this app has a paid route: call tallystick.install(app, settings) on it,"
            " or on the app that it is mounted in"
        )


class NotStarted(SetUpWrongly):
    """The app takes requests although its lifespan has not run."""

    def __init__(self) -> None:
        super().__init__(
            "tallystick was installed and never started: run the app's lifespan. A"
            " mounted app has none of its own, so install into the outermost one"
        )


class PaidTwice(SetUpWrongly):
    """Two ``paid`` dependencies guard one route."""

    def __init__(self, feature: str) -> None:
        super().__init__(
            f"a second paid() on one route, for {feature!r}: a call has one price, so"
            " make one feature of the two, or use its quantity"
        )


class PaidWebSocket(SetUpWrongly):
    """A WebSocket has no answer that could be charged for."""

    def __init__(self, feature: str) -> None:
        super().__init__(
            f"paid({feature!r}) guards a WebSocket: only HTTP routes can be paid, so"
            " let a paid route hand out a ticket for the socket"
        )


class InternalError(TallystickError):
    """A fault of ours."""

    title = "Something went wrong on our side"
    next_step = "Try again; if it persists, tell the operator."


class Answered(Exception):
    """The paywall has answered; the handler must not run."""

    def __init__(self, verdict: Challenge | Replay) -> None:
        super().__init__("answered by the paywall")
        self.verdict = verdict


def _answered(api_prefix: str, request: Request, outcome: Exception) -> Response:
    assert isinstance(outcome, Answered)
    if isinstance(outcome.verdict, Replay):
        return replayed(outcome.verdict.answer)
    return challenge_answer(outcome.verdict, root_of(request.scope) + api_prefix)


def _known(api_prefix: str, request: Request, error: Exception) -> Response:
    assert isinstance(error, TallystickError)
    return problem(error, root_of(request.scope) + api_prefix)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _known("", request, invalid_request(error.errors()))


def invalid_request(errors: Any, given: Any = UNSEEN) -> InvalidRequest:
    """What pydantic found in ``given``, told without a value (it may be a secret)."""
    found = in_plain_words(errors, given)
    first = found[0]
    detail = f"{first['field']} {first['problem']}; expected: {first['expected']}"
    return InvalidRequest(detail, errors=found)


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND:
        return _known("", request, UnknownRoute("there is nothing at this path"))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _known("", request, MethodNotAllowed(_allowed(request)))
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_")
    document = {"title": phrase, "status": error.status_code, "code": code}
    return Problem(document, error.status_code, {**NO_STORE, **(error.headers or {})})


def _allowed(request: Request) -> Iterator[str]:
    """Every method of the path: each route of it knows its own ones only."""
    for route in iter_route_contexts(request.app.routes):
        if route.matches(request.scope)[0] is Match.PARTIAL:
            yield from route.methods or ()


def _unforeseen(request: Request, error: Exception) -> Response:
    _log.error("unforeseen_error", path=request.url.path, kind=type(error).__name__)
    return _known("", request, InternalError("the request could not be finished"))


def install_error_answers(app: FastAPI, api_prefix: str = "") -> None:
    """Answer our errors in our form; a handler that the seller has for them stays."""
    app.add_exception_handler(Answered, partial(_answered, api_prefix))
    known = partial(_known, api_prefix)
    app.exception_handlers.setdefault(TallystickError, known)


def own_every_error(app: FastAPI) -> None:
    """Answer the framework's errors in our form as well: the app is ours alone."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)
