"""What every command prints alike."""

import sys
from datetime import UTC, datetime
from typing import Any

from tallystick.kernel import json


def print_json(document: dict[str, Any]) -> None:
    """One line on stdout, for programs."""
    sys.stdout.buffer.write(json.dumps(document) + b"\n")


def to_the_second(milliseconds: int | None) -> str | None:
    """The time for people: RFC 3339 in UTC; None for never."""
    if milliseconds is None:
        return None
    at = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
