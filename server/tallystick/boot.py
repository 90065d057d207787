"""What must be so before the server takes money; each refusal says what to do."""

import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.exc import DBAPIError

from tallystick import migrations
from tallystick.chain.deployment import MULTICALL3
from tallystick.chain.permit2 import (
    EXACT_PROXY,
    PERMIT2,
    is_exact_proxy,
    knows_domain,
)
from tallystick.chain.rpc import Chain
from tallystick.chain.token import token_facts
from tallystick.kernel.db import Database, open_database
from tallystick.safe_settings import UnsafeSettings, check_database_url
from tallystick.x402.keccak import checksum_address
from tallystick.x402.permit2 import permit2_separator
from tallystick.x402.wire import TokenDomain


async def check_database(db: Database) -> None:
    """The database answers and has the schema of this version.

    Raises ``UnsafeSettings``.
    """
    _require_file(db)
    with reachable():
        if not await migrations.is_current(db):
            raise UnsafeSettings(
                ["the database has another schema: run `tallystick migrate` first."]
            )


@asynccontextmanager
async def open_books(url: str) -> AsyncIterator[Database]:
    """The database for a command that needs no chain and no key; closed afterwards.

    Raises ``UnsafeSettings`` unless it is there and has the schema of this version.
    """
    check_database_url(url)
    db = open_database(url)
    try:
        await check_database(db)
        yield db
    finally:
        await db.close()


def require_no_folder(db: Database) -> None:
    """Raise ``UnsafeSettings`` when DATABASE_URL names a folder."""
    path = db.writer.url.database
    if db.is_sqlite and path and Path(path).is_dir():
        raise UnsafeSettings(
            [f"DATABASE_URL names the folder {path}: name a file in it."]
        )


def _require_file(db: Database) -> None:
    require_no_folder(db)
    path = db.writer.url.database
    if db.is_sqlite and path and not Path(path).is_file():
        raise UnsafeSettings(
            [f"there is no database at {path}: run `tallystick migrate` first."]
        )


@contextmanager
def reachable() -> Iterator[None]:
    """Turn a database that cannot be reached, or is not ours, into ``UnsafeSettings``."""
    try:
        yield
    except migrations.NotOurDatabase as error:
        raise UnsafeSettings([str(error)]) from error
    except (DBAPIError, OSError) as error:
        # The words of a driver may repeat the URL with its password.
        cause = error.orig if isinstance(error, DBAPIError) else error
        problem = (
            f"the database cannot be used ({type(cause).__name__}): check DATABASE_URL,"
            " that its server runs, and that the file may be written."
        )
        if "file is not a database" in str(cause):
            problem = (
                "DATABASE_URL names a file that is no SQLite database: name another."
            )
        raise UnsafeSettings([problem]) from error


def check_address(host: str, port: int) -> None:
    """Raise ``UnsafeSettings`` when nobody can listen there."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _no_address(error) from error
    faults = [_bind_fault(one[0], one[4]) for one in found]
    taken = [one for one in faults if one and one.errno == errno.EADDRINUSE]
    # Of several addresses one may be of a family that this machine does not have.
    if taken or all(faults):
        raise _no_address((taken or faults)[0])


def _no_address(fault: OSError | None) -> UnsafeSettings:
    why = fault.strerror if fault is not None else "there is no such address"
    return UnsafeSettings([f"HOST and PORT cannot be listened on ({why}): set others."])


def _bind_fault(family: int, address: Any) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As the server does, so that a port which was just left can be taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


async def check_multicall(chain: Chain) -> None:
    """What calls the factories for us is there.

    Raises ``UnsafeSettings``, or ``RpcUnavailable`` when nobody can be asked.
    """
    if not await chain.code_at(MULTICALL3):
        problem = (
            "WALLET_FACTORIES is set, and this chain has no Multicall3 at"
            f" {checksum_address(MULTICALL3)}, which would call them: unset it."
        )
        raise UnsafeSettings([problem])


async def check_permit2(chain: Chain) -> None:
    """What payments by Permit2 are signed for is there, and is what it seems.

    Raises ``UnsafeSettings``, or ``RpcUnavailable`` when nobody can be asked.
    """
    problems = []
    if not await knows_domain(chain, permit2_separator(chain.expected_chain_id)):
        problems.append(
            f"PERMIT2 is set, and this chain has no Permit2 at {checksum_address(PERMIT2)}"
            " with the usual EIP-712 domain: unset it."
        )
    if not await is_exact_proxy(chain):
        problems.append(
            "PERMIT2 is set, and this chain has no x402ExactPermit2Proxy of that Permit2"
            f" at {checksum_address(EXACT_PROXY)}: unset it."
        )
    if problems:
        raise UnsafeSettings(problems)


async def check_token(chain: Chain, domain: TokenDomain) -> None:
    """The token on chain is the one whose signatures we will believe.

    Raises ``UnsafeSettings``, or ``RpcUnavailable`` when nobody can be asked.
    """
    facts = await token_facts(chain)
    problems = []
    if facts.decimals != 6:
        problems.append(
            f"ASSET has {facts.decimals} decimals and 6 are expected: set ASSET to USDC."
        )
    if facts.domain_separator != domain.separator():
        problems.append(
            f"ASSET's EIP-712 domain on chain ({facts.name!r}, {facts.version!r}) is not"
            f" {domain.name!r}, {domain.version!r}: check NETWORK, ASSET and RPC_URLS."
        )
    if problems:
        raise UnsafeSettings(problems)
