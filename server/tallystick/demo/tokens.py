"""Nine more tokens for a portfolio, so that its audit has something to read."""

import asyncio

from eth_abi.abi import encode

from tallystick.chain import abi
from tallystick.chain.local import OWNER, LocalChain, artifact
from tallystick.chain.logs import receipt
from tallystick.demo.errors import StoryBroke

_NAMES = (
    "Test Euro",
    "Test Franc",
    "Test Krona",
    "Test Peso",
    "Test Pound",
    "Test Rand",
    "Test Real",
    "Test Rupee",
    "Test Yen",
)
_FIRST = 0x70CE00000000000000000000000000000000A001
_EACH = 250_000_000
_MINED_SECONDS = 10


async def plant_tokens(local: LocalChain, holders: list[bytes]) -> list[bytes]:
    """Nine tokens at addresses of their own; the holders have some of each but the last.

    They are the test dollar under other names, and the last one is paused.
    """
    code = artifact("TestDollar")
    named, filled = [], []
    for index, name in enumerate(_NAMES):
        token = (_FIRST + index).to_bytes(20, "big")
        await local.plant(token, code)
        title = encode(("string", "address"), (name, OWNER))
        named.append((token, abi.selector("initialize(string,address)") + title))
        amount = _EACH * (index + 1)
        filled += [(token, _mint(holder, amount)) for holder in holders]
    paused = named[-1][0]
    filled = [call for call in filled if call[0] != paused]
    # What a token does is estimated on the newest block, so its name comes before.
    await _mine_all(local, named)
    await _mine_all(local, [*filled, (paused, abi.selector("pause()"))])
    return [token for token, _ in named]


async def _mine_all(local: LocalChain, calls: list[tuple[bytes, bytes]]) -> None:
    sent = [await local.submit(OWNER, token, call) for token, call in calls]
    await local.mine()
    for _ in range(_MINED_SECONDS * 10):
        if all([await receipt(local.chain, tx_hash) for tx_hash in sent]):
            return
        await asyncio.sleep(0.1)
    raise StoryBroke("the tokens of the portfolio were not mined")


def _mint(holder: bytes, amount: int) -> bytes:
    return abi.selector("mint(address,uint256)") + abi.word(holder) + abi.word(amount)
