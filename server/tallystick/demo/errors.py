"""What can go wrong with a demo."""

from typing import Any

from tallystick.kernel.errors import NotFound, TallystickError


class StoryBroke(TallystickError):
    """Something did not come out as it is told."""

    title = "The demo did not come out as it should"


class ClientMissing(NotFound):
    """The stock clients that the demo pays with are not on this machine."""

    title = "The demo cannot begin"
    next_step = "Run scripts/demo in a checkout: it installs everything first."


def expect(what: str, found: Any, wanted: Any) -> None:
    """Raise ``StoryBroke`` unless what was found is what the story tells."""
    if found != wanted:
        raise StoryBroke(f"{what}: {found!r} where {wanted!r} was expected")
