"""``tallystick chain``: a local chain in the foreground, for trying the server."""

import asyncio
import re
import secrets
import signal
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from tallystick.chain.local import ADDRESSES, KEYS, LocalChain
from tallystick.config import new_secret_key
from tallystick.kernel.money import (
    USDC_SCALE,
    InvalidAmount,
    UsdcAtomic,
    format_usdc,
    parse_decimal,
)
from tallystick.x402.keccak import checksum_address

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK_SECONDS = 1.0
_BUYER, _BUYER_KEY = ADDRESSES[3], KEYS[3]
_POCKET_MONEY = UsdcAtomic(100_000_000)
_CALL = (
    "http://127.0.0.1:8402/features/ai_analyst"
    "?address=0x036CbD53842c5426634e7929541eC2318f3dCF7e"
)


def chain(
    *,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 in a container.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")
    ] = 8545,
    mint: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS=USD", help="Test dollars to give; may repeat."),
    ] = None,
) -> None:
    """Run a local chain with a test dollar where USDC is; for trying, never for money."""
    gifts = [_gift(text) for text in mint or []]
    asyncio.run(_run(host, port, gifts))
    typer.echo("The chain has stopped; what was on it is gone.")


def _gift(text: str) -> tuple[bytes, UsdcAtomic]:
    address, _, dollars = text.partition("=")
    if not _ADDRESS.fullmatch(address):
        raise typer.BadParameter(f"{text!r} is not ADDRESS=USD: 0x and 40 hex digits.")
    try:
        amount = parse_decimal(dollars, USDC_SCALE)
    except InvalidAmount as error:
        raise typer.BadParameter(error.detail) from error
    if amount <= 0:
        raise typer.BadParameter(f"{text!r} gives nothing.")
    return bytes.fromhex(address[2:]), UsdcAtomic(amount)


async def _run(host: str, port: int, gifts: list[tuple[bytes, UsdcAtomic]]) -> None:
    stopped = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    # A block a second, as mining by the clock misses no transaction under concurrency.
    async with LocalChain(block_time=1, host=host, port=port) as local:
        for address, amount in gifts:
            await local.mint(address, amount)
            typer.echo(f"{checksum_address(address)} has {format_usdc(amount)} more.")
        await local.mint(_BUYER, _POCKET_MONEY)
        _tell(local)
        while not stopped.is_set():
            local.check()
            await _wait(stopped)


async def _wait(stopped: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            await stopped.wait()
    except TimeoutError:
        return


def _tell(local: LocalChain) -> None:
    typer.echo(f"A local chain listens at {local.url}; Ctrl-C stops it.")
    typer.echo(f"Its test dollar is {checksum_address(local.token)}.")
    typer.echo("Paste this into another shell to serve:\n")
    for name, value in _settings(local).items():
        typer.echo(f"export TALLYSTICK_{name}={value}")
    typer.echo("tallystick serve")
    typer.echo(
        "\nAnd this into a third one, in the checkout, to buy with a wallet that"
    )
    typer.echo(f"has {format_usdc(_POCKET_MONEY)}:\n")
    typer.echo(f"export BUYER_KEY=0x{_BUYER_KEY.hex()}")
    typer.echo(f"python examples/clients/pay.py '{_CALL}' --repeat 3")
    typer.echo("\nEverybody knows these keys: never use them on a real chain.")


def _settings(local: LocalChain) -> dict[str, str]:
    # This chain forgets when it stops, and books of it are worth nothing to the next.
    books = Path(tempfile.gettempdir()) / f"tallystick-{secrets.token_hex(4)}.sqlite3"
    return {
        "NETWORK": f"eip155:{local.chain_id}",
        "RPC_URLS": local.url,
        "PAY_TO": checksum_address(ADDRESSES[2]),
        "RELAYER_KEYS": f"0x{KEYS[1].hex()}",
        "SECRET_KEY": new_secret_key(),
        "DATABASE_URL": f"sqlite+aiosqlite:///{books}",
    }
