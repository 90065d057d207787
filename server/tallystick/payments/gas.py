"""Gas money: a relayer that has none is passed over, and everybody is told.

Kept in memory, by each process for itself: it is asked again every few seconds.
"""

from decimal import Decimal

from tallystick.chain.relay import CONTRACT_GAS_CAP, Fees, fees
from tallystick.kernel.log import get_logger
from tallystick.payments.rail import Rail
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)
_RESERVE = 3
"""Settlements that a relayer must be able to pay, at the dearest."""


def gas_reserve(price: Fees) -> int:
    """Wei that a relayer must have before it signs anything at these fees."""
    return _RESERVE * CONTRACT_GAS_CAP * price.max_fee_per_gas


async def check_gas(rail: Rail) -> None:
    """Know which relayers can pay for settlements now. Raises ``RpcUnavailable``."""
    if not rail.relayers:
        return
    needed = gas_reserve(await fees(rail.chain))
    for relayer in rail.relayers:
        wei = await rail.chain.native_balance(relayer.address)
        rail.outlook.relayer_wei[relayer.address] = wei
        if wei < needed:
            pause(
                rail,
                relayer.address,
                has_ether=ether(wei),
                needs_ether=ether(needed),
                next_step=f"Send at least {ether(needed - wei)} ether to the relayer.",
            )
        elif relayer.address in rail.outlook.without_gas:
            rail.outlook.without_gas.discard(relayer.address)
            _log.info(
                "relayer_has_gas_again", relayer=checksum_address(relayer.address)
            )
            rail.work.notify()


def ether(wei: int) -> str:
    """At most nine decimals (gwei), rounded up: what is asked for must be enough."""
    gwei = -(-wei // 10**9)
    return f"{Decimal(gwei).scaleb(-9):f}"


def pause(rail: Rail, address: bytes, **told: str) -> None:
    """Sign nothing more with the key until it has gas money; the alarm is this line."""
    if address in rail.outlook.without_gas:
        return
    rail.outlook.without_gas.add(address)
    _log.error("relayer_without_gas", relayer=checksum_address(address), **told)
