"""A shop with a float, on each kind of database or on SQLite alone."""

import pytest

from tallystick.chain.local import LocalChain
from tallystick.payments.models.topups import TopUp
from tallystick.payments.rail import Relayer
from tests.house import DOLLAR, House, Wallet
from tests.payments.paybacks.scenes import RULES, Shop


@pytest.fixture
async def seller(local: LocalChain) -> Wallet:
    """Has the key of ``pay_to``."""
    return Wallet(local)


@pytest.fixture
async def float_key(local: LocalChain) -> Relayer:
    """A hundred dollars, and ether for gas."""
    wallet = await Wallet(local).fund(100 * DOLLAR)
    await local.give_gas(wallet.address)
    return Relayer(wallet.address, wallet.key)


async def _open(house: House, seller: Wallet, key: Relayer) -> Shop:
    house.pay_to = seller.address
    process = await house.start(paybacks=RULES, float_key=key)
    return Shop(process, house.local, seller)


@pytest.fixture
async def shop(house: House, seller: Wallet, float_key: Relayer) -> Shop:
    """On SQLite; all books are right when the test is over."""
    return await _open(house, seller, float_key)


@pytest.fixture
async def any_shop(any_house: House, seller: Wallet, float_key: Relayer) -> Shop:
    """On each kind of database."""
    return await _open(any_house, seller, float_key)


@pytest.fixture
async def topup(shop: Shop, wallet: Wallet) -> TopUp:
    """Five dollars for fifty credits."""
    return await shop.bought(wallet)
