"""A shop whose gas is counted, and payers who cost some."""

from typing import Any

from sqlmodel import col, select

from tallystick.chain.local import LocalChain, artifact
from tallystick.kernel.clock import OffsetClock
from tallystick.payments.models.gas import GasDay, PayerGas, RelayedGas
from tallystick.payments.models.topups import RelayedTransaction, TopUp, TopUpState
from tests.house import House, Process, Wallet, relayer

S = TopUpState
KEY = relayer(2)
ONLY_IN_SIMULATION = 6
DAY_SECONDS = 24 * 3600


def seconds_until_midnight(clock: OffsetClock) -> int:
    return DAY_SECONDS - clock.now_ms() // 1000 % DAY_SECONDS


async def wait(house: House, seconds: int) -> None:
    house.clock.advance(seconds)
    await house.local.advance(seconds)


async def hostile_wallet(local: LocalChain) -> Wallet:
    """A contract that has signed everything, as long as nobody pays for the gas."""
    wallet = Wallet(local)
    await local.plant(wallet.address, artifact("HostileWallet"))
    mood = ONLY_IN_SIMULATION.to_bytes(32, "big")
    await local.write_storage(wallet.address, 0, mood)
    return await wallet.fund()


async def claimed(
    house: House, shop: Process, wallet: Wallet | None = None, *, seconds: int = 90
) -> int:
    payer = wallet or await Wallet(house.local).fund()
    return await shop.claim(await payer.authorize(house.pay_to, seconds=seconds))


async def gas_of(shop: Process, topup_id: int) -> list[RelayedGas]:
    query = (
        select(RelayedGas)
        .join(
            RelayedTransaction,
            col(RelayedTransaction.tx_hash) == col(RelayedGas.tx_hash),
        )
        .where(col(RelayedTransaction.topup_id) == topup_id)
        .order_by(col(RelayedTransaction.evm_nonce), col(RelayedTransaction.attempt))
    )
    async with shop.db.read() as session:
        return list((await session.exec(query)).all())


async def days_of(shop: Process) -> list[GasDay]:
    async with shop.db.read() as session:
        query = select(GasDay).order_by(col(GasDay.day))
        return list((await session.exec(query)).all())


async def payers_gas(shop: Process, wallet: Wallet) -> PayerGas:
    query = select(PayerGas).where(col(PayerGas.payer) == wallet.address)
    async with shop.db.read() as session:
        return (await session.exec(query)).one()


async def settle_and_count(shop: Process, topup_id: int) -> TopUp:
    topup = await shop.settle(topup_id)
    await shop.tend()
    return topup


def events(logs: list[Any]) -> list[str]:
    return [line["event"] for line in logs]
