"""The callables behind the tests' own catalog, shop.toml."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tallystick.kernel.errors import Conflict, Unavailable

CATALOG = str(Path(__file__).with_name("shop.toml"))
CALLS: Counter[str] = Counter()
"""How often each text was echoed, by all tests of this process: use texts of your own."""


class EchoUnavailable(Unavailable):
    """The echo is gone."""

    next_step = "Shout again."


class EchoTaken(Conflict):
    """Somebody else has the echo."""

    next_step = "Shout something else."


class FallenRock(Exception):
    """Nothing that anybody expects."""


@dataclass
class Slowly:
    """A slow call: the test sees it begin, and says when it may end."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)


SLOW: dict[str, Slowly] = {}
"""Put a ``Slowly`` here under a name of your own, then call ``slow`` with the name."""


async def echo(_context: Any, *, text: str) -> dict[str, Any]:
    CALLS[text] += 1
    return {"echo": text, "call": CALLS[text]}


async def slow(_context: Any, *, name: str) -> dict[str, Any]:
    CALLS[name] += 1
    one = SLOW[name]
    one.begun.set()
    await one.may_end.wait()
    return {"name": name, "call": CALLS[name]}


async def broken(_context: Any, *, how: str) -> dict[str, Any]:
    if how == "rock":
        raise FallenRock
    if how == "taken":
        raise EchoTaken("somebody has it")
    if how == "unavailable":
        raise EchoUnavailable("it is gone")
    return {"how": {1, 2}}  # a set is no JSON


async def words(_context: Any, *, words: list[str]) -> dict[str, Any]:
    return {"words": len(words)}


async def strict(_context: Any, **given: Any) -> dict[str, Any]:
    return given
