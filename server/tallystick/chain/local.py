"""A chain of one's own: anvil, with the test dollar where USDC is, and Permit2.

For the demo, for tests and for trying things; never for money. Stock clients find the
asset and the EIP-712 domain that they expect, because the test dollar's runtime code
stands at the network's official address.
"""

import asyncio
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from eth_abi.abi import encode

from tallystick.chain import abi
from tallystick.chain.anvil import (
    CHECKOUT,
    AnvilFailed,
    AnvilProcess,
    find_anvil,
)
from tallystick.chain.fees import fees
from tallystick.chain.hexadecimal import fixed, octets, quantity, to_hex
from tallystick.chain.logs import Receipt, receipt
from tallystick.chain.permit2 import EXACT_PROXY, PERMIT2
from tallystick.chain.rpc import Chain
from tallystick.chain.well_known import (
    ADDRESSES,
    KEYS,
    WELL_KNOWN_ADDRESSES,
    WELL_KNOWN_KEYS,
)
from tallystick.kernel.errors import NotFound
from tallystick.kernel.money import UsdcAtomic

__all__ = [
    "ADDRESSES",
    "BASE_FEE_WEI",
    "KEYS",
    "OFFICIAL_USDC",
    "OWNER",
    "WELL_KNOWN_ADDRESSES",
    "WELL_KNOWN_KEYS",
    "ArtifactMissing",
    "LocalChain",
    "artifact",
]

OFFICIAL_USDC = {
    8453: ("USD Coin", bytes.fromhex("833589fcd6edb6e08f4c7c32d4f71b54bda02913")),
    84532: ("USDC", bytes.fromhex("036cbd53842c5426634e7929541ec2318f3dcf7e")),
}
"""Name and address of USDC by chain id: Base, Base Sepolia (Circle's list)."""

OWNER = ADDRESSES[9]
"""Owns the test dollar; the other well-known addresses are free for relayers."""

BASE_FEE_WEI = 5_000_000
"""Of the first block, as on Base; an anvil left alone begins with 200 times as much."""

_EVERYWHERE = frozenset({"0.0.0.0"})  # noqa: S104  # recognised, not bound
_READY_SECONDS = 10
_POLL_SECONDS = 0.01


class ArtifactMissing(NotFound):
    """The compiled test contracts are not where a checkout has them."""

    is_for_operators = True
    next_step = (
        "Run from a checkout that has contracts/build/, "
        "or set TALLYSTICK_CONTRACTS to that folder."
    )


def artifact(name: str, folder: Path | None = None) -> bytes:
    """Runtime code of a compiled test contract; raises ``ArtifactMissing``."""
    named = os.environ.get("TALLYSTICK_CONTRACTS")
    place = folder or (Path(named) if named else CHECKOUT / "contracts" / "build")
    path = place / f"{name}.json"
    if not path.is_file():
        raise ArtifactMissing(f"there is no {path}")
    return octets(json.loads(path.read_text())["deployedBytecode"])


class LocalChain:
    """An anvil node on a loopback port, a free one by default.

    ``host`` is where others reach it: loopback unless it runs in a container.
    ``block_time`` in seconds mines by the clock; None mines each transaction at once
    (which can miss ready ones under concurrency: use 1 there). ``safe`` is
    ``slots_in_an_epoch`` blocks behind the head, ``finalized`` twice that.
    """

    def __init__(
        self,
        *,
        anvil: str | os.PathLike[str] | None = None,
        artifacts: Path | None = None,
        chain_id: int = 84532,
        block_time: int | None = None,
        slots_in_an_epoch: int = 1,
        port: int = 0,
        host: str = "127.0.0.1",
        silent: bool = True,
    ) -> None:
        self.chain_id = chain_id
        self.title, self.token = OFFICIAL_USDC[chain_id]
        self._artifacts = artifacts
        self._silent = silent
        options = [f"--chain-id={chain_id}", f"--slots-in-an-epoch={slots_in_an_epoch}"]
        options += [f"--block-time={block_time}"] if block_time else []
        options += [f"--base-fee={BASE_FEE_WEI}"]
        self._process = AnvilProcess(find_anvil(anvil), options, port=port, host=host)
        # Who listens everywhere is reached on loopback.
        self._host = "127.0.0.1" if host in _EVERYWHERE else host
        self._block_time = block_time or 0
        self._automines = not block_time
        self._snapshots: list[str] = []
        self._chain: Chain | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def chain(self) -> Chain:
        """Our own view of the node; others open theirs with ``open_chain``."""
        assert self._chain is not None, "the chain is not started"
        return self._chain

    @property
    def pid(self) -> int | None:
        """The node's process; None when it is not running."""
        return self._process.pid

    @property
    def log(self) -> Path | None:
        """What the node says; much, unless it is silent."""
        return self._process.log

    def open_chain(self, *rpc_urls: str, timeout_seconds: float = 5) -> Chain:
        """A new ``Chain`` on this node, or on proxies in front of it."""
        urls = rpc_urls or (self.url,)
        return Chain(
            urls,
            chain_id=self.chain_id,
            token=self.token,
            timeout_seconds=timeout_seconds,
        )

    async def start(self) -> None:
        """Start the node and plant what x402 pays with; all or nothing.

        Raises ``AnvilFailed``, ``ArtifactMissing``.
        """
        code = artifact("TestDollar", self._artifacts)
        others = {
            PERMIT2: artifact("Permit2", self._artifacts),
            EXACT_PROXY: artifact("ExactProxy", self._artifacts),
        }
        try:
            await self._start_node()
            await self.plant(self.token, code)
            for address, other in others.items():
                await self.plant(address, other)
            title = encode(("string", "address"), (self.title, OWNER))
            call = abi.selector("initialize(string,address)") + title
            await self.send(OWNER, self.token, call)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End the node and everything in its group; may be called twice."""
        chain, self._chain = self._chain, None
        self._process.kill()
        if chain is not None:
            await chain.close()

    def check(self) -> None:
        """Raise ``AnvilFailed`` if the node has ended by itself."""
        self._process.port()

    async def rpc(self, method: str, *params: Any) -> Any:
        """Ask the node anything; the JSON result. Raises ``RpcErrorAnswer``."""
        return await self.chain.ask(method, params, lambda value: value)

    async def mint(self, holder: bytes, amount: UsdcAtomic) -> Receipt:
        """Make test dollars out of nothing."""
        call = abi.selector("mint(address,uint256)") + abi.word(holder)
        return await self.send(OWNER, self.token, call + abi.word(amount))

    async def give_gas(self, address: bytes, wei: int = 10**18) -> None:
        """Set the address's ether, so that it can pay for gas."""
        await self.rpc("anvil_setBalance", to_hex(address), hex(wei))

    async def plant(self, address: bytes, code: bytes) -> None:
        """Put runtime code at an address; no constructor runs."""
        await self.rpc("anvil_setCode", to_hex(address), to_hex(code))

    async def write_storage(self, address: bytes, slot: int, word: bytes) -> None:
        """Set one 32-byte slot of a contract's storage."""
        parameters = (to_hex(address), to_hex(abi.word(slot)), to_hex(abi.word(word)))
        await self.rpc("anvil_setStorageAt", *parameters)

    async def send(self, sender: bytes, to: bytes, calldata: bytes = b"") -> Receipt:
        """A transaction from any address, mined before this returns."""
        tx_hash = await self.submit(sender, to, calldata)
        for attempt in range(int(_READY_SECONDS / _POLL_SECONDS)):
            # The node answers before it has mined, and may not mine by itself.
            found = await receipt(self.chain, tx_hash)
            if found is not None:
                return found
            if attempt == 4 and not self._automines:
                await self.mine()
            await asyncio.sleep(_POLL_SECONDS)
        raise AnvilFailed(f"{to_hex(tx_hash)} was not mined")

    async def submit(self, sender: bytes, to: bytes, calldata: bytes = b"") -> bytes:
        """Put a transaction into the pool; its hash. A poor sender is given gas."""
        await self.rpc("anvil_impersonateAccount", to_hex(sender))
        if await self.chain.native_balance(sender) == 0:
            await self.give_gas(sender)
        call = {"from": to_hex(sender), "to": to_hex(to), "data": to_hex(calldata)}
        # A node's own proposal would be a hundred times the price of Base.
        call |= (await fees(self.chain)).as_hex()
        return fixed(await self.rpc("eth_sendTransaction", call), 32)

    async def mine(self, blocks: int = 1) -> None:
        """Add blocks, the first with what is ready in the pool."""
        await self.rpc("anvil_mine", hex(blocks))

    async def advance(self, seconds: int) -> None:
        """Move the chain's clock forward and mine a block at the new time."""
        await self.rpc("evm_increaseTime", seconds)
        await self.mine()

    async def set_automine(self, *, on: bool) -> None:
        """Mine each transaction at once, or only when told to (or by the clock)."""
        await self.rpc("evm_setAutomine", on)
        self._automines = on

    async def snapshot(self) -> str:
        """A name for the state as it is now."""
        name = str(await self.rpc("evm_snapshot"))
        self._snapshots.append(name)
        return name

    async def revert(self, name: str) -> None:
        """Back to a snapshot, which is used up.

        Raises ``ValueError`` for one from before a reorganisation: anvil would lose
        its head.
        """
        if name not in self._snapshots:
            raise ValueError(f"snapshot {name} is gone")
        self._snapshots.remove(name)
        await self.rpc("evm_revert", name)

    async def reorg(self, from_block: int) -> None:
        """Replace every block from this height on by an empty one; the height stays.

        What was in them is gone, from the pool too; send it again if it is wanted.
        Anvil puts one transaction into two blocks when it may mine or has any ready,
        so mining stops and the pool is emptied first, into blocks that are replaced.
        """
        automines = self._automines
        await self.set_automine(on=False)
        await self.rpc("evm_setIntervalMining", 0)
        while quantity((await self.rpc("txpool_status"))["pending"]):
            await self.mine()
        head = await self.chain.block("latest")
        assert head is not None, "the node lost its head"
        await self.rpc("anvil_reorg", head.number - from_block + 1, [])
        self._snapshots.clear()
        if self._block_time:
            await self.rpc("evm_setIntervalMining", self._block_time)
        await self.set_automine(on=automines)

    async def _start_node(self) -> None:
        self._process.start()
        for _ in range(int(_READY_SECONDS / _POLL_SECONDS)):
            port = self._process.port()
            if port is not None:
                self.url = f"http://{self._host}:{port}"
                self._chain = self.open_chain()
                await self.rpc("anvil_setLoggingEnabled", not self._silent)
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise AnvilFailed(f"anvil did not listen within {_READY_SECONDS} s")
