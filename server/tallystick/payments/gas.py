"""Gas money: a relayer that has none is passed over, and everybody is told.

Kept in memory, by each process for itself: it is asked again every few seconds.
"""

from tallystick.chain.relay import CONTRACT_GAS_CAP, fees
from tallystick.kernel.log import get_logger
from tallystick.payments.rail import Rail

_log = get_logger(__name__)
_RESERVE = 3
"""Settlements that a relayer must be able to pay, at the dearest."""


async def check_gas(rail: Rail) -> None:
    """Know which relayers can pay for settlements now. Raises ``RpcUnavailable``."""
    if not rail.relayers:
        return
    price = await fees(rail.chain)
    needed = _RESERVE * CONTRACT_GAS_CAP * price.max_fee_per_gas
    for relayer in rail.relayers:
        wei = await rail.chain.native_balance(relayer.address)
        if wei < needed:
            pause(rail, relayer.address, wei=wei, needed=needed)
        elif relayer.address in rail.outlook.without_gas:
            rail.outlook.without_gas.discard(relayer.address)
            _log.info("relayer_has_gas_again", relayer=f"0x{relayer.address.hex()}")
            rail.work.notify()


def pause(rail: Rail, address: bytes, **figures: int) -> None:
    """Sign nothing more with the key until it has gas money; the alarm is this line."""
    if address in rail.outlook.without_gas:
        return
    rail.outlook.without_gas.add(address)
    _log.error("relayer_without_gas", relayer=f"0x{address.hex()}", **figures)
