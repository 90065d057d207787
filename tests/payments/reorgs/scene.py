"""A shop on a chain whose blocks are replaced, and what it then has and is owed."""

from sqlmodel import col, select

from tallystick.chain.local import LocalChain
from tallystick.chain.relay import broadcast
from tallystick.credits.debts import owed_by
from tallystick.customers.wallets import customer_of_wallet
from tallystick.kernel.money import MicroCredits
from tallystick.metering.charges import Usage, charge
from tallystick.payments.models.chain import ChainTransfer
from tallystick.payments.models.topups import TopUp, TopUpState
from tests.house import Process, Wallet

S = TopUpState


async def pay(shop: Process, payer: Wallet) -> TopUp:
    """A dollar for ten credits."""
    signed = await payer.authorize(shop.rail.pay_to)
    topup = await shop.settle(await shop.claim(signed))
    assert topup.state == S.CREDITED
    await shop.observe()
    return topup


async def replace_from(shop: Process, chain: LocalChain, block: int | None) -> None:
    """Every block from this one on is another by now, and holds nothing."""
    assert block is not None
    await chain.reorg(block)


async def spend(shop: Process, payer: Wallet, amount: int) -> None:
    async with shop.db.read() as session:
        customer_id = await customer_of_wallet(session, payer.address)
    assert customer_id is not None
    usage = Usage(customer_id, "echo", 1_000_000, MicroCredits(amount), "v1")
    await shop.db.write(lambda session: charge(session, usage, idempotency_key=None))


async def owed(shop: Process, payer: Wallet) -> int:
    async with shop.db.read() as session:
        customer_id = await customer_of_wallet(session, payer.address)
        return await owed_by(session, customer_id or 0)


async def presence(shop: Process) -> list[str]:
    query = select(ChainTransfer.presence).order_by(col(ChainTransfer.id))
    async with shop.db.read() as session:
        return list((await session.exec(query)).all())


async def send_again(shop: Process, chain: LocalChain, topup: TopUp) -> None:
    (sent,) = await shop.sent(topup.id)
    await broadcast(chain.chain, sent.raw)
    await chain.mine()
