"""How answers look: exact JSON, and RFC 9457 problems with a stable code."""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Scope

from tallystick.kernel import json
from tallystick.kernel.errors import TallystickError
from tallystick.paywall.answer import NO_STORE, Answer
from tallystick.paywall.challenges import Challenge

PROBLEM = "application/problem+json"
ROOT = "tallystick.root"
"""Where in a scope the wrapper leaves the path that a server has put before our app."""


class ExactJson(Response):
    """JSON in which no number has been through a float."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The content as UTF-8 JSON."""
        return json.dumps(content)


class Problem(ExactJson):
    """A problem document (RFC 9457)."""

    media_type = PROBLEM


def problem(error: TallystickError, api_prefix: str) -> Response:
    """The answer for an error; ``api_prefix`` is what stands before our own paths.

    That is a path, or a whole address; ``type`` then leads to our page of errors.
    """
    headers = dict(NO_STORE)
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="tallystick"'
    if "allow" in error.members:
        headers["Allow"] = ", ".join(error.members["allow"])
    if "location" in error.members:
        headers["Location"] = api_prefix + str(error.members["location"])
    document = {
        "type": f"{api_prefix}/errors#{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "next_step": error.next_step,
        **error.members,
    }
    if "location" in document:
        document["location"] = headers["Location"]
    return Problem(document, error.status, headers)


def root_of(scope: Scope) -> str:
    """What clients write before the paths of the app we are in.

    That is the path of PUBLIC_URL, and what a proxy or a mount has put there.

    A sub-app's own ``root_path`` is longer, and our routes are not there.
    """
    return str(scope.get(ROOT, scope.get("root_path", "")))


def challenge_answer(challenge: Challenge, api_prefix: str) -> Response:
    """The 402 of a challenge; ``api_prefix`` as ``problem`` has it."""
    page = f"{api_prefix}/errors#{challenge.body['code']}"
    document = {**challenge.body, "type": page}
    return Problem(document, 402, {**NO_STORE, **challenge.headers})


def replayed(answer: Answer) -> Response:
    """An answer that was given before, marked as such."""
    response = response_of(answer)
    response.headers["Idempotency-Replayed"] = "true"
    return response


def response_of(answer: Answer) -> Response:
    """An answer as it goes out for the first time."""
    response = Response(answer.body, answer.http_status)
    response.raw_headers += [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in answer.headers
        if name.lower() not in {"content-length", "idempotency-replayed"}
    ]
    response.headers.update(NO_STORE)
    return response


def answer_of(response: Response) -> Answer:
    """A response as it is kept for copies of its request."""
    pairs = header_pairs(response.raw_headers)
    return Answer(response.status_code, pairs, bytes(response.body))


def header_pairs(raw: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Headers of an ASGI message as text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in raw]


def raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as an ASGI message has them."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers.items()
    ]
