"""What the float has, so that somebody is told before a customer asks."""

from tallystick.chain.relay import fees
from tallystick.chain.token import balance_of
from tallystick.payments.gas.solvency import gas_reserve
from tallystick.payments.rail import FloatFunds, Rail


async def check_funds(rail: Rail) -> FloatFunds | None:
    """Know what the float has now; None without one.

    Raises ``RpcUnavailable`` or ``TokenUnreadable``.
    """
    key = rail.float_key
    if key is None:
        return None
    needed = gas_reserve(await fees(rail.chain))
    wei = await rail.chain.native_balance(key.address)
    usdc = await balance_of(rail.chain, key.address)
    rail.outlook.float_has = FloatFunds(usdc, wei, needed)
    return rail.outlook.float_has
