"""What happens to the server, its node and its chain in ``payments``, one by one.

Its notes, beside those of ``payers``:

    {"reorg": 7, "kept": 2, "agreed": 3.1, "findings": []}   two looks of the observer later
    {"restart": 1}
    {"outage": 60.0, "open": ["0x…"]}           what was open when it ended
    {"after": 15.0, "open": ["0x…"]}            what of it is still
    {"exposed": 12000000, "cap": …, "most": …, "each": …}
"""

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account
from tests.processes import ServerProcess

from soak.node_faults import Menu
from soak.payers import Town
from soak.plan import Plan
from tallystick.chain.errors import RpcErrorAnswer
from tallystick.chain.hexadecimal import quantity, to_hex
from tallystick.kernel.db import Database, query
from tallystick.payments.rail import Rail
from tallystick.payments.reconciling.reconcile import reconcile

DEEPEST = 16
SETTLED_WITHIN = 15.0
"""Seconds after a node's return by which everything that waited for it is resolved."""
# The observer looks every two seconds; how fast it reads is the machine's affair.
_TWO_LOOKS_SECONDS = 8.0
_READ_SECONDS = 60.0
_LONG_OUTAGE_SECONDS = 60.0
# What is watched after a reorganisation waits for more than the node's return.
_WAITING = "SELECT nonce FROM topup WHERE state IN ('claimed', 'signed')"
_OPEN = """
    SELECT nonce FROM topup WHERE state IN ('claimed', 'signed', 'watch', 'reversed')
"""
_MISSING = "SELECT COUNT(*) AS found FROM chain_transfer WHERE presence = 'missing'"
_CURSOR = "SELECT block_number, block_hash FROM chain_cursor"
_EXPOSED = """
    SELECT COALESCE(MAX(CASE WHEN customer_id = 0 THEN provisional END), 0) AS together,
           COALESCE(MAX(CASE WHEN customer_id > 0 THEN provisional END), 0) AS most,
           (SELECT COALESCE(SUM(value), 0) FROM topup WHERE state = 'final') AS volume
      FROM exposure
"""
_EPISODES = {
    "outage": 1,
    "reorganise": 3,
    "kill": 2,
    "kill_in_trouble": 1,
    "use_key_elsewhere": 2,
}


@dataclass
class Chaos:
    """One trouble after the other; ``rail`` asks the node itself, not the proxy."""

    plan: Plan
    town: Town
    menu: Menu
    servers: list[ServerProcess]
    db: Database
    rail: Rail
    relayer_key: bytes
    chance: random.Random
    reorgs: int = 0
    restarts: int = 0
    elsewhere: list[str] = field(default_factory=list)

    async def rage(self, seconds: float) -> None:
        """Each kind in its turn, trouble with the node between any two of them.

        In the middle of a long run the node is gone for long.
        """
        began, is_long = time.monotonic(), seconds > 2 * _LONG_OUTAGE_SECONDS
        left = self._shuffled()
        while (passed := time.monotonic() - began) < seconds:
            if is_long and passed > seconds / 3:
                is_long = False
                await self.outage(_LONG_OUTAGE_SECONDS)
            await self.trouble()
            left = left or self._shuffled()
            await getattr(self, left.pop())()

    def _shuffled(self) -> list[str]:
        names = [name for name, times in _EPISODES.items() for _ in range(times)]
        self.chance.shuffle(names)
        return names

    async def trouble(self) -> None:
        self.plan.tell(self.menu.some())
        await asyncio.sleep(self.chance.uniform(2, 7))
        self.menu.proxy.heal()

    async def outage(self, seconds: float | None = None) -> None:
        """The node is gone, and what waited for it is resolved soon after its return."""
        seconds = seconds or self.chance.uniform(1, 10)
        self.plan.tell(f"the node is gone for {seconds:.0f} s")
        await self.menu.proxy.down()
        await asyncio.sleep(seconds)
        await self.menu.proxy.up()
        waited = await self._nonces(_WAITING)
        self.town.notes.note(outage=round(seconds, 1), open=sorted(waited))
        end = time.monotonic() + SETTLED_WITHIN
        while waited and time.monotonic() < end:
            await asyncio.sleep(0.5)
            waited &= await self._nonces(_OPEN)
        self.town.notes.note(after=SETTLED_WITHIN, open=sorted(waited))

    async def _nonces(self, which: str) -> set[str]:
        async with self.db.read() as session:
            rows = await query(session, which)
        return {to_hex(bytes(row["nonce"])) for row in rows}

    async def kill(self) -> None:
        server = self.chance.choice(self.servers)
        await server.end(signal.SIGKILL)
        await asyncio.sleep(self.chance.choice((0, self.chance.uniform(0, 2))))
        await server.start()
        self.restarts += 1
        self.town.notes.note(restart=self.restarts)

    async def kill_in_trouble(self) -> None:
        """It dies while its node fails; the next one finds a healthy node."""
        self.plan.tell(self.menu.some())
        await asyncio.sleep(self.chance.uniform(1, 3))
        server = self.chance.choice(self.servers)
        await server.end(signal.SIGKILL)
        self.menu.proxy.heal()
        await server.start()
        self.restarts += 1
        self.town.notes.note(restart=self.restarts)

    async def use_key_elsewhere(self) -> None:
        """Somebody uses the relayer's key for something else."""
        account, node = Account.from_key(self.relayer_key), self.town.chain
        async with self.town.pool:
            nonce = await node.chain.nonce(
                bytes.fromhex(account.address[2:]), "pending"
            )
            signed = account.sign_transaction(
                {
                    "to": account.address,
                    "value": 0,
                    "gas": 21_000,
                    "maxFeePerGas": 100 * 10**9,
                    "maxPriorityFeePerGas": 2 * 10**9,
                    "nonce": nonce,
                    "chainId": node.chain_id,
                }
            )
            raw = to_hex(bytes(signed.raw_transaction))
            await self._submit(raw)
        self.elsewhere.append(raw)
        self.plan.tell(f"nonce {nonce} of the relayer is used elsewhere")

    async def _submit(self, raw: str) -> None:
        try:
            await self.town.chain.rpc("eth_sendRawTransaction", raw)
        except RpcErrorAnswer:
            return  # it is there already, or its nonce is used

    async def reorganise(self) -> None:
        """Replace blocks; some of the relayer's transactions are in the new ones."""
        depth = self.chance.randint(1, DEEPEST)
        async with self.town.pool:
            # Nothing may come into the pool: anvil would mine it into two blocks.
            await self.menu.proxy.down()
            try:
                kept, head = await self._replace(depth)
            finally:
                await self.menu.proxy.up()
            # A real node puts what was dropped into its pool again.
            for raw in self.elsewhere:
                await self._submit(raw)
        self.reorgs += 1
        self.plan.tell(f"{depth} blocks were replaced, {kept} transactions kept")
        began, findings = time.monotonic(), await self._agree(head)
        seconds = round(time.monotonic() - began, 1)
        self.town.notes.note(reorg=depth, kept=kept, agreed=seconds, findings=findings)

    async def _replace(self, depth: int) -> tuple[int, int]:
        node = self.town.chain
        await node.rpc("evm_setIntervalMining", 0)
        while quantity((await node.rpc("txpool_status"))["pending"]):
            await node.mine()
        head = await node.chain.block("latest")
        assert head is not None
        ours = await self._ours(head.number - depth + 1, head.number)
        kept = ours[: self.chance.choice((0, len(ours), len(ours) // 2))]
        await node.rpc("anvil_reorg", depth, kept)
        await node.rpc("evm_setIntervalMining", 1)
        return len(kept), head.number

    async def _ours(self, first: int, last: int) -> list[list[Any]]:
        """The relayer's transactions in these blocks, and the place of their block."""
        node, found = self.town.chain, []
        sender = Account.from_key(self.relayer_key).address.lower()
        for number in range(first, last + 1):
            block = await node.rpc("eth_getBlockByNumber", hex(number), True)  # noqa: FBT003  # the node's word
            for one in block["transactions"]:
                if one["from"].lower() == sender:
                    raw = await node.rpc("eth_getRawTransactionByHash", one["hash"])
                    found.append([raw, number - first])
        return found

    async def _agree(self, head: int) -> list[str]:
        """What books and chain differ in, two looks after the new blocks were read."""
        end = time.monotonic() + _READ_SECONDS
        while not await self._has_read(head):
            if time.monotonic() > end:
                return [f"the observer does not come to block {head}"]
            await asyncio.sleep(0.2)
        end = time.monotonic() + _TWO_LOOKS_SECONDS
        findings = await self._differences()
        while findings and time.monotonic() < end:
            await asyncio.sleep(1)
            findings = await self._differences()
        return findings

    async def _has_read(self, head: int) -> bool:
        """Whether the observer has come so far, and on the chain that there is now."""
        async with self.db.read() as session:
            (cursor,) = await query(session, _CURSOR)
        block = await self.rail.chain.block(cursor["block_number"])
        is_there = block is not None and block.hash == bytes(cursor["block_hash"])
        return is_there and cursor["block_number"] >= head

    async def _differences(self) -> list[str]:
        seen = await reconcile(self.db, self.rail)
        findings = [f"{one.invariant}: {one.detail}" for one in seen.findings]
        async with self.db.read() as session:
            (row,) = await query(session, _MISSING)
        if row["found"]:
            findings.append(f"{row['found']} Transfers are missing still")
        return findings

    async def watch_exposure(self, each: int, floor: int, percent: int) -> None:
        """Write down what is exposed, against its caps, whenever it changes."""
        last = None
        while True:
            async with self.db.read() as session:
                (row,) = await query(session, _EXPOSED)
            if row != last:
                cap = max(floor, row["volume"] * percent // 100)
                told = {"exposed": row["together"], "most": row["most"]}
                self.town.notes.note(**told, cap=cap, each=each)
            last = row
            await asyncio.sleep(0.5)
