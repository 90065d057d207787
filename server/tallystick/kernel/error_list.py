"""Every error that is known, as ``docs/errors.md`` and the page ``/errors`` tell it."""

import inspect
import re
from dataclasses import dataclass

from tallystick.kernel import errors
from tallystick.kernel.errors import TallystickError, known_errors

_OURS = "tallystick."
_DEMO = "tallystick.demo."
"""What breaks there is told to whoever started it, and to no caller."""


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """One code. ``meaning`` and ``next_step`` may hold Markdown's backticks.

    ``is_sellers`` marks an error that an app which embeds us has added.
    """

    code: str
    status: int
    title: str
    meaning: str
    next_step: str | None
    is_for_operators: bool
    is_sellers: bool


def error_lines() -> list[ErrorLine]:
    """The errors of all modules that are loaded, by their codes."""
    return [
        _line(error)
        for _, error in sorted(known_errors().items())
        if error.__module__ != errors.__name__  # nobody raises the roots
    ]


def _line(error: type[TallystickError]) -> ErrorLine:
    return ErrorLine(
        error.code,
        error.status,
        error.title,
        _meaning(error) or error.title,
        error.next_step,
        error.is_for_operators or error.__module__.startswith(_DEMO),
        not error.__module__.startswith(_OURS),
    )


def _meaning(error: type[TallystickError]) -> str:
    text = inspect.cleandoc(error.__doc__ or "")
    sentence = " ".join(text.split("\n\n")[0].split())
    # References are for readers of the code.
    plain = re.sub(r" \((?:ruling|docs|reliability)[^)]*\)", "", sentence)
    return plain.replace("``", "`")
