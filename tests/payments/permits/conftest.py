"""A shop that takes payments by Permit2, and a wallet that has approved it."""

import pytest

from tallystick.chain.local import LocalChain
from tests.house import House, Process
from tests.permits import PermitWallet


@pytest.fixture
async def payer(local: LocalChain) -> PermitWallet:
    """With a hundred dollars, all of which Permit2 may move."""
    wallet = PermitWallet(local)
    await wallet.fund()
    await wallet.approve()
    return wallet


@pytest.fixture
async def shop(house: House) -> Process:
    """On SQLite; all books are right when the test is over."""
    return await house.start(takes_permit2=True)


@pytest.fixture
async def any_shop(any_house: House) -> Process:
    """On each kind of database."""
    return await any_house.start(takes_permit2=True)
