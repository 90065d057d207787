"""Gas money: a relayer that has none, or may spend no more today, is passed over.

Everybody is told. Kept in memory, by each process for itself: it is asked again every
few seconds.
"""

from decimal import Decimal

from sqlmodel import col, select

from tallystick.chain.relay import CONTRACT_GAS_CAP, DEPLOYMENT_GAS_CAP, Fees, fees
from tallystick.kernel.db import Database, now_ms
from tallystick.kernel.log import get_logger
from tallystick.payments.models.gas import GasDay
from tallystick.payments.rail import Rail
from tallystick.payments.rules.gas import day_at
from tallystick.x402.keccak import checksum_address

_log = get_logger(__name__)
_RESERVE = 3
"""Settlements that a relayer must be able to pay, at the dearest."""


def gas_reserve(price: Fees, *, deploys: bool = False) -> int:
    """Wei that a relayer must have before it signs anything at these fees."""
    return _RESERVE * _dearest(price, deploys=deploys)


def _dearest(price: Fees, *, deploys: bool) -> int:
    """Wei that one settlement of the dearest kind costs the key."""
    gas = DEPLOYMENT_GAS_CAP if deploys else CONTRACT_GAS_CAP
    return gas * price.max_fee_per_gas


async def check_gas(rail: Rail) -> None:
    """Know which relayers can pay for settlements now. Raises ``RpcUnavailable``."""
    if not rail.relayers:
        return
    price = rail.outlook.price = await fees(rail.chain)
    for relayer in rail.relayers:
        needed = gas_reserve(price, deploys=relayer.deploys)
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


async def check_budgets(db: Database, rail: Rail) -> None:
    """Know which relayers may sign today; asks no node.

    Who could not pay for the dearest settlement any more signs none, so that what is
    signed meanwhile does not decide who may.
    """
    price = rail.outlook.price
    query = select(GasDay.relayer, GasDay.reserved, GasDay.spent)
    async with db.read() as session:
        day = day_at(now_ms(session))
        today = query.where(
            col(GasDay.chain_id) == rail.domain.chain_id, col(GasDay.day) == day
        )
        rows = (await session.exec(today)).all()
    counted = {relayer: reserved + spent for relayer, reserved, spent in rows}
    for relayer in rail.relayers:
        wei = counted.get(relayer.address, 0)
        dearest = _dearest(price, deploys=relayer.deploys) if price else 0
        if wei + dearest > rail.gas.per_day:
            pause_for_today(rail, relayer.address, day, counts_ether=ether(wei))
        elif relayer.address in rail.outlook.over_budget:
            rail.outlook.over_budget.discard(relayer.address)
            _log.info(
                "relayer_may_spend_again", relayer=checksum_address(relayer.address)
            )
            rail.work.notify()


def pause_for_today(rail: Rail, address: bytes, day: int, **told: str) -> None:
    """Sign nothing new with the key until its budget allows; told once a day."""
    outlook = rail.outlook
    outlook.over_budget.add(address)
    if outlook.told_over_budget.get(address) == day:
        return
    outlook.told_over_budget[address] = day
    _log.error(
        "relayer_budget_spent",
        relayer=checksum_address(address),
        budget_ether=ether(rail.gas.per_day),
        **told,
        next_step="Nothing new is signed until midnight UTC. Find out why gas is spent,"
        " then raise GAS_PER_DAY if it should be.",
    )
