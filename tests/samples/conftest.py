"""A local chain with a token that has holders, and a context that looks at it."""

from collections.abc import AsyncIterator

import pytest

from tallystick.chain.local import LocalChain
from tallystick.samples.context import FeatureContext


@pytest.fixture
async def local() -> AsyncIterator[LocalChain]:
    async with LocalChain() as chain:
        yield chain


@pytest.fixture
async def context(local: LocalChain) -> AsyncIterator[FeatureContext]:
    chain = local.open_chain()
    yield FeatureContext(chain)
    await chain.close()
