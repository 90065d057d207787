"""Tallystick: prepaid credits for APIs, paid in USDC over x402.

What an embedding app imports. The names are loaded on first use, so that a room of
the house can be imported without the web framework.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tallystick.api.paid import paid
    from tallystick.app import create_app, install
    from tallystick.config import Settings

__all__ = ["Settings", "create_app", "install", "paid"]
_HOMES = {
    "Settings": "tallystick.config",
    "create_app": "tallystick.app",
    "install": "tallystick.app",
    "paid": "tallystick.api.paid",
}


def __getattr__(name: str) -> Any:
    """The public name from its home."""
    if name not in _HOMES:
        raise AttributeError(f"tallystick has no {name}")
    return getattr(import_module(_HOMES[name]), name)
