"""What others do on the chain: submit somebody's payment, drain a wallet, cancel."""

import asyncio

from tallystick.chain.fees import SMALLEST_TIP_WEI
from tallystick.chain.hexadecimal import fixed, to_hex
from tallystick.chain.local import ADDRESSES, LocalChain
from tallystick.chain.logs import receipt
from tallystick.chain.relay import settlement_call
from tallystick.x402.wire import Authorization
from tests.chain.payer import cancel_call, mined, transfer_call
from tests.house import Wallet

STRANGER = ADDRESSES[5]
GWEI = 10**9


async def pool(
    local: LocalChain,
    sender: bytes,
    calldata: bytes,
    *,
    tip: int = 1,
    to: bytes | None = None,
) -> bytes:
    """Put a call, of the token unless told, into the pool; a higher tip is mined first.

    Tips are times what everybody pays: others follow the last blocks' prices.
    """
    await local.rpc("anvil_impersonateAccount", to_hex(sender))
    if await local.chain.native_balance(sender) == 0:
        await local.give_gas(sender)
    call = {
        "from": to_hex(sender),
        "to": to_hex(to or local.token),
        "data": to_hex(calldata),
        "gas": hex(200_000),
        "maxFeePerGas": hex(100 * GWEI),
        "maxPriorityFeePerGas": hex(tip * SMALLEST_TIP_WEI),
    }
    return fixed(await local.rpc("eth_sendTransaction", call), 32)


async def submit(
    local: LocalChain,
    signed: tuple[Authorization, bytes],
    *,
    tip: int = 1,
    mine: bool = True,
) -> None:
    """Somebody else settles the authorization."""
    tx_hash = await pool(local, STRANGER, settlement_call(*signed), tip=tip)
    if mine:
        assert (await mined(local.chain, tx_hash)).succeeded


async def pool_cancellation(local: LocalChain, wallet: Wallet, nonce: bytes) -> None:
    """The payer cancels, ahead of everything else in the pool."""
    call = cancel_call(local, wallet.key, nonce)
    await pool(local, wallet.address, call, tip=50)


async def pool_transfer(local: LocalChain, wallet: Wallet, usdc: int) -> None:
    """The payer empties his wallet, ahead of everything else in the pool."""
    await pool(local, wallet.address, transfer_call(STRANGER, usdc), tip=50)


async def has_reverted(local: LocalChain, tx_hash: bytes) -> bool:
    found = await receipt(local.chain, tx_hash)
    return found is not None and not found.succeeded


async def settle_pool(local: LocalChain) -> None:
    """Mine until nothing is left in the pool."""
    for _ in range(20):
        await local.mine()
        if int((await local.rpc("txpool_status"))["pending"], 16) == 0:
            return
        await asyncio.sleep(0.01)
