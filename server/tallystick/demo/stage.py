"""The stage: a chain, a server in a process of its own, and the buyers' money."""

import asyncio
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tallystick.chain.local import KEYS, LocalChain
from tallystick.chain.token import balance_of
from tallystick.demo.children import Child, child, plain_environment
from tallystick.demo.errors import StoryBroke
from tallystick.demo.ports import free_port
from tallystick.demo.tokens import plant_tokens
from tallystick.demo.wallet import Wallet
from tallystick.kernel.money import UsdcAtomic

_READY_SECONDS = 60
_POCKET_MONEY = UsdcAtomic(20_000_000)
_CLI = "from tallystick.cli import main; main()"
TALLYSTICK = (sys.executable, "-c", _CLI)
"""This very program, as a command."""


@dataclass(frozen=True)
class Stage:
    """Everything that the story plays on; ``settings`` are the server's, by name."""

    folder: Path
    local: LocalChain
    url: str
    settings: dict[str, str]
    server: Child
    http: httpx.AsyncClient
    pay_to: Wallet
    buyers: tuple[Wallet, Wallet]
    newcomer: Wallet
    """Has as many dollars as a buyer, and no part in the story: for who tries it."""
    tokens: list[bytes]

    @property
    def database(self) -> Path:
        return self.folder / "books.sqlite3"

    async def usdc_of(self, holder: Wallet) -> int:
        """What a wallet has on chain, in atomic units."""
        return await balance_of(self.local.chain, holder.address)


@asynccontextmanager
async def set_stage() -> AsyncIterator[Stage]:
    """A running stage; everything it started is gone afterwards.

    Raises ``AnvilMissing``, ``ArtifactMissing``, ``AnvilFailed``, ``StoryBroke``.
    """
    async with AsyncExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="tallystick-demo-")
        folder = Path(stack.enter_context(temporary))
        # Base has a block every two seconds; one a second keeps the demo short.
        local = await stack.enter_async_context(LocalChain(block_time=1))
        pay_to, newcomer = Wallet.new(), Wallet.new()
        buyers = (Wallet.new(), Wallet.new())
        settings = _settings(folder, local, pay_to)
        url = settings["TALLYSTICK_PUBLIC_URL"]
        serving = child(
            [*TALLYSTICK, "serve"],
            environment=plain_environment() | settings,
            folder=folder,
            log=folder / "server.log",
        )
        server = await stack.enter_async_context(serving)
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=60)
        )
        for buyer in (*buyers, newcomer):
            await local.mint(buyer.address, _POCKET_MONEY)
        tokens = await plant_tokens(local, [one.address for one in buyers])
        await _until_ready(server, http)
        yield Stage(
            folder=folder,
            local=local,
            url=url,
            settings=settings,
            server=server,
            http=http,
            pay_to=pay_to,
            buyers=buyers,
            newcomer=newcomer,
            tokens=tokens,
        )


def _settings(folder: Path, local: LocalChain, pay_to: Wallet) -> dict[str, str]:
    port = free_port()
    values = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{folder}/books.sqlite3",
        "NETWORK": f"eip155:{local.chain_id}",
        "RPC_URLS": local.url,
        "PAY_TO": pay_to.shown,
        # Its money for gas is the test chain's own.
        "RELAYER_KEYS": f"0x{KEYS[1].hex()}",
        "SECRET_KEY": secrets.token_urlsafe(48),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
        "POLL_SECONDS": "0.2",
        "LOG_JSON": "false",
    }
    return {f"TALLYSTICK_{name}": value for name, value in values.items()}


async def _until_ready(server: Child, http: httpx.AsyncClient) -> None:
    for _ in range(_READY_SECONDS * 10):
        if server.exit_code is not None:
            raise StoryBroke(f"the server did not start: {server.last_words()}")
        try:
            if (await http.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise StoryBroke(f"the server was not ready after {_READY_SECONDS} seconds")
