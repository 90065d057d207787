"""A local chain with a payer who has ten test dollars."""

import secrets
from collections.abc import AsyncIterator

import pytest

from tallystick.chain.fault import FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.chain.rpc import Chain
from tests.chain.payer import DOLLAR, RELAYER, Payer


@pytest.fixture
async def local() -> AsyncIterator[LocalChain]:
    async with LocalChain() as chain:
        yield chain


@pytest.fixture
async def chain(local: LocalChain) -> AsyncIterator[Chain]:
    opened = local.open_chain()
    yield opened
    await opened.close()


@pytest.fixture
async def payer(local: LocalChain) -> Payer:
    found = Payer(local, secrets.token_bytes(32))
    await local.mint(found.address, 10 * DOLLAR)
    await local.give_gas(RELAYER)
    return found


@pytest.fixture
async def first(local: LocalChain) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(local.url) as found:
        yield found


@pytest.fixture
async def second(local: LocalChain) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(local.url) as found:
        yield found
