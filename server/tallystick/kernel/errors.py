"""The root of every error that a caller may see.

    TallystickError            knows its HTTP status, stable code and next step
    ├─ BadInput        400/422 the caller must change the request
    ├─ Unauthenticated 401     the caller must prove who it is
    ├─ Forbidden       403     proven, and not allowed
    ├─ NotFound        404
    ├─ Conflict        409     clashes with what is already so
    └─ Unavailable     503     nothing was done; try again later

A domain's errors live in its own ``errors.py``, derive from one of these and compose
their message from the objects they are given. The code is the class name in snake
case, so a class and its code cannot drift apart, and two classes cannot share one.
"""

import re
from typing import Any, ClassVar

_REGISTRY: dict[str, type["TallystickError"]] = {}


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class TallystickError(Exception):
    """An outcome that the caller is told about, with a remedy.

    ``detail`` says what happened, ``next_step`` what the caller can do about it,
    ``members`` are further fields of the RFC 9457 problem document (JSON values),
    ``retry_after_seconds`` becomes the ``Retry-After`` header. ``for_operator`` holds
    what only the log and the command line may show, such as a node's host.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "tallystick_error"
    title: ClassVar[str] = "Something went wrong"
    next_step: str | None = None
    retry_after_seconds: int | None = None
    is_for_operators: ClassVar[bool] = False
    """Whether only who runs or embeds the server can do something about it."""

    def __init__(self, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.members = members
        self.for_operator: dict[str, str] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.code = _snake_case(cls.__name__)
        taken = _REGISTRY.setdefault(cls.code, cls)
        if (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"error code {cls.code!r} belongs to {taken!r}")


class BadInput(TallystickError):
    """The request is malformed; sending it again unchanged cannot succeed."""

    status = 422
    title = "The request cannot be understood"


class Unauthenticated(TallystickError):
    """Nobody was proven to be calling."""

    status = 401
    title = "Authentication is required"


class Forbidden(TallystickError):
    """The caller is known and may not do this."""

    status = 403
    title = "Not allowed"


class NotFound(TallystickError):
    """The thing named does not exist, or is not the caller's to see."""

    status = 404
    title = "Not found"
    next_step: str | None = "Check the name or id that you sent."


class Conflict(TallystickError):
    """The request clashes with what is already so."""

    status = 409
    title = "Conflicts with an earlier request"


class Unavailable(TallystickError):
    """Nothing was done; the same request may succeed later."""

    status = 503
    title = "Temporarily unavailable"
    retry_after_seconds = 5


def known_errors() -> dict[str, type[TallystickError]]:
    """Every error class by its code, for the documentation and its tests."""
    return dict(_REGISTRY)
